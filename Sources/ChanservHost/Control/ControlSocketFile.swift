internal import Glibc

/// Why there is no control socket.
package struct ControlSocketError: Error, Hashable, CustomStringConvertible {
    package var description: String

    init(_ what: String, _ reason: String) {
        description = "\(what): \(reason)"
    }

    /// With the reason of the system call made last.
    init(_ what: String) {
        self.init(what, String(cString: strerror(errno)))
    }

    /// Where the folder of a socket is at fault, in most cases.
    fileprivate init(_ what: String, folderOf path: String, code: Int32) {
        let folder = quoted(ControlSocketFile.folder(of: path))
        switch code {
        case ENOENT: self.init(what, "its folder \(folder) does not exist: make it, or choose another path")
        case ENOTDIR: self.init(what, "\(folder) is no folder: choose another path")
        case EACCES, EPERM, EROFS:
            self.init(what, "its folder \(folder) cannot be written to (\(systemMessage(code))): choose another path")
        default: self.init(what, systemMessage(code))
        }
    }
}

/// A Unix socket in the file system that only its owner can connect to, from its first moment on.
///
/// A socket whose host is gone is replaced, one whose host is there is not. Looking and replacing are one step as far as
/// other hosts are concerned: whoever does it holds a lock on the folder, which leaves no file behind.
package struct ControlSocketFile: Sendable {
    /// What fits into `sockaddr_un` beside the zero at its end.
    package static let longestPath = 107
    /// Connections that wait to be accepted.
    private static let backlog: Int32 = 64

    /// Listens; belongs to whoever asked for it.
    let descriptor: Int32
    private let path: String
    /// Which file it is: at its path another may stand later.
    private let device: dev_t
    private let inode: ino_t

    /// Binds the path and listens there. Blocks on the file system.
    ///
    /// - Throws: where something else stands there that is no left-over, or the path cannot be bound.
    init(binding path: String) throws(ControlSocketError) {
        let what = Self.cannotMake(path)
        self.path = path
        let lock = try FolderLock(of: path, what)
        defer { lock.unlock() }
        try Self.removeLeftOver(at: path, what)

        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Self.closeOnExec, 0)
        guard descriptor >= 0 else { throw ControlSocketError(what) }
        var isDone = false
        defer { if !isDone { close(descriptor) } }
        // On Linux the file takes its mode from the socket, so there is no moment in which others could connect; the umask
        // can only take rights away.
        guard fchmod(descriptor, 0o600) == 0 else { throw ControlSocketError(what) }
        guard withSocketAddress(path, { bind(descriptor, $0, $1) }) == 0 else {
            throw ControlSocketError(what, folderOf: path, code: errno)
        }
        var status = stat()
        guard lstat(path, &status) == 0, listen(descriptor, Self.backlog) == 0 else {
            let error = ControlSocketError(what)
            unlink(path)
            throw error
        }
        (device, inode) = (status.st_dev, status.st_ino)
        self.descriptor = descriptor
        isDone = true
    }

    /// What would keep a host from binding `path`, as far as it can be seen without doing it. A socket that stands there is
    /// none of it: it may be that of the host that runs. Blocks on the file system.
    package static func problem(with path: String) -> ControlSocketError? {
        let what = cannotMake(path)
        let folder = folder(of: path)
        var status = stat()
        guard stat(folder, &status) == 0 else { return ControlSocketError(what, folderOf: path, code: errno) }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            return ControlSocketError(what, folderOf: path, code: ENOTDIR)
        }
        guard access(folder, R_OK | W_OK | X_OK) == 0 else {
            return ControlSocketError(what, folderOf: path, code: errno)
        }
        guard lstat(path, &status) == 0 else { return errno == ENOENT ? nil : ControlSocketError(what) }
        return status.st_mode & S_IFMT == S_IFSOCK ? nil : noSocket(what)
    }

    /// Whether the file at the path is this one. Blocks on the file system. To be asked while the descriptor is open: until
    /// then no other file gets the number of this one.
    var isInPlace: Bool {
        var status = stat()
        return lstat(path, &status) == 0 && status.st_dev == device && status.st_ino == inode
    }

    private static func cannotMake(_ path: String) -> String { "cannot make the control socket \(quoted(path))" }

    private static func noSocket(_ what: String) -> ControlSocketError {
        ControlSocketError(what, "something else than a socket stands there, and is not replaced: choose another path")
    }

    fileprivate static func folder(of path: String) -> String {
        PluginFile.split(path).folder
    }

    /// Removes the file, unless another has taken its place. Blocks on the file system. To be called before the descriptor
    /// is closed: as long as it is open, no other file gets the number of this one.
    ///
    /// - Throws: where it is there and cannot be removed.
    func remove() throws(ControlSocketError) {
        let what = "cannot remove the control socket \(quoted(path))"
        let lock = try FolderLock(of: path, what)
        defer { lock.unlock() }
        var status = stat()
        guard lstat(path, &status) == 0 else {
            if errno == ENOENT { return }
            throw ControlSocketError(what)
        }
        guard status.st_dev == device, status.st_ino == inode else { return }
        guard unlink(path) == 0 else { throw ControlSocketError(what) }
    }

    private static func removeLeftOver(at path: String, _ what: String) throws(ControlSocketError) {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            if errno == ENOENT { return }
            throw ControlSocketError(what)
        }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw noSocket(what)
        }
        guard try !answers(path, what) else {
            throw ControlSocketError(what, "another host answers there: end it, or choose another path")
        }
        guard unlink(path) == 0 || errno == ENOENT else { throw ControlSocketError(what) }
    }

    /// Whether somebody listens.
    private static func answers(_ path: String, _ what: String) throws(ControlSocketError) -> Bool {
        // Not to wait where a host's backlog is full.
        let flags = Int32(SOCK_STREAM.rawValue) | closeOnExec | Int32(SOCK_NONBLOCK.rawValue)
        let descriptor = socket(AF_UNIX, flags, 0)
        guard descriptor >= 0 else { throw ControlSocketError(what) }
        defer { close(descriptor) }
        if withSocketAddress(path, { connect(descriptor, $0, $1) }) == 0 { return true }
        switch errno {
        case ECONNREFUSED, ENOENT: return false
        case EAGAIN: return true
        default: throw ControlSocketError(what)
        }
    }

    private static let closeOnExec = Int32(SOCK_CLOEXEC.rawValue)
}

/// Calls `body` with the address of a Unix socket. A path that does not fit is cut, and therefore not to be given.
func withSocketAddress<Value>(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Value) -> Value {
    precondition(path.utf8.count <= ControlSocketFile.longestPath, "the path of a socket is too long")
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    return withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
    }
}

/// An advisory lock on the folder of a file, gone with the process at the latest.
private struct FolderLock {
    /// Somebody else's lock is waited for so often, a hundredth of a second each time.
    private static let attempts = 500

    private let descriptor: Int32

    init(of path: String, _ what: String) throws(ControlSocketError) {
        descriptor = open(ControlSocketFile.folder(of: path), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw ControlSocketError(what, folderOf: path, code: errno) }
        // Whoever may read the folder may lock it: to wait for ever would leave the start to them.
        for _ in 0..<Self.attempts {
            if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return }
            guard errno == EWOULDBLOCK || errno == EINTR else { break }
            usleep(10_000)
        }
        let error = ControlSocketError("\(what), its folder cannot be locked")
        close(descriptor)
        throw error
    }

    func unlock() {
        close(descriptor)
    }
}
