package import Glibc
internal import HostConfiguration
internal import PluginRuntime

/// The reason why a control socket cannot be created or removed.
package struct ControlSocketError: Error, Hashable, CustomStringConvertible {
    package var description: String

    init(_ what: String, _ reason: String) {
        description = "\(what): \(reason)"
    }

    /// Creates an error with the reason of the last system call (`errno`).
    init(_ what: String) {
        self.init(what, String(cString: strerror(errno)))
    }

    /// Creates an error of a call that usually fails because of the socket's folder.
    fileprivate init(_ what: String, folderErrno code: Int32) {
        switch code {
        case ENOENT: self.init(what, "its folder does not exist: create it, or choose another path")
        case ENOTDIR: self.init(what, "its folder is not a directory: choose another path")
        case EACCES, EPERM, EROFS:
            self.init(what, "its folder is not writable (\(systemMessage(code))): choose another path")
        default: self.init(what, systemMessage(code))
        }
    }
}

/// A Unix socket in the file system that only its owner and root can connect to, from the moment of its creation.
///
/// A socket that a dead host left behind is replaced; one of a running host is not. Hosts that start at the same time
/// do not replace each other's socket: a host locks the folder while it checks and replaces. The lock leaves no file
/// behind.
package struct ControlSocketFile: Sendable {
    /// Maximum connections that wait to be accepted.
    private static let backlog: Int32 = 64

    /// The listening descriptor. The caller owns it.
    package let descriptor: Int32
    private(set) var path: String
    /// Identify the file, because another one may replace it at its path.
    private let device: dev_t
    private let inode: ino_t

    /// Binds the path and listens. Blocks on the file system.
    ///
    /// - Parameter replacesListener: whether to replace a socket at which another host listens. `false`, the default,
    ///   makes that an error.
    /// - Throws: if another host listens there, the file there is not a socket, or the path cannot be bound.
    package init(binding path: String, replacesListener: Bool = false) throws(ControlSocketError) {
        let what = Self.cannotCreate(path)
        self.path = path
        let lock = try FolderLock(of: path, what)
        defer { lock.unlock() }
        try Self.removeStaleSocket(at: path, replacesListener: replacesListener, what)

        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Self.closeOnExec, 0)
        guard descriptor >= 0 else { throw ControlSocketError(what) }
        var isDone = false
        defer { if !isDone { close(descriptor) } }
        // On Linux the file gets its mode from the socket, so other users can never connect. The umask can only remove
        // permissions.
        guard fchmod(descriptor, 0o600) == 0 else { throw ControlSocketError(what) }
        guard withSocketAddress(path, { bind(descriptor, $0, $1) }) == 0 else {
            throw ControlSocketError(what, folderErrno: errno)
        }
        var status = stat()
        guard lstat(path.systemString, &status) == 0, listen(descriptor, Self.backlog) == 0 else {
            let error = ControlSocketError(what)
            unlink(path.systemString)
            throw error
        }
        (device, inode) = (status.st_dev, status.st_ino)
        self.descriptor = descriptor
        isDone = true
    }

    /// Returns the reason why a host could not bind `path`, as far as this is known without binding. A socket that
    /// exists there is no problem: it may belong to the running host. Blocks on the file system.
    package static func problem(with path: String) -> ControlSocketError? {
        let what = cannotCreate(path)
        let folder = folder(of: path)
        var status = stat()
        guard stat(folder.systemString, &status) == 0 else { return ControlSocketError(what, folderErrno: errno) }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            return ControlSocketError(what, folderErrno: ENOTDIR)
        }
        guard access(folder.systemString, R_OK | W_OK | X_OK) == 0 else {
            return ControlSocketError(what, folderErrno: errno)
        }
        guard lstat(path.systemString, &status) == 0 else { return errno == ENOENT ? nil : ControlSocketError(what) }
        return status.st_mode & S_IFMT == S_IFSOCK ? nil : notASocket(what)
    }

    /// Whether the file at the path is this socket. Blocks on the file system. Call it while the descriptor is open:
    /// after that another file may get the same inode number.
    var isInPlace: Bool {
        var status = stat()
        return lstat(path.systemString, &status) == 0 && status.st_dev == device && status.st_ino == inode
    }

    private static func cannotCreate(_ path: String) -> String { "cannot create the control socket \(quoted(path))" }

    private static func notASocket(_ what: String) -> ControlSocketError {
        ControlSocketError(what, "the file there is not a socket and is not replaced: choose another path")
    }

    fileprivate static func folder(of path: String) -> String {
        PluginFile.split(path).folder
    }

    /// Removes the socket, unless another file has replaced it. Blocks on the file system. Call it while the descriptor
    /// is open: after that another file may get the same inode number.
    ///
    /// - Throws: if the socket exists and cannot be removed.
    package func remove() throws(ControlSocketError) {
        let what = "cannot remove the control socket \(quoted(path))"
        let lock = try FolderLock(of: path, what)
        defer { lock.unlock() }
        var status = stat()
        guard lstat(path.systemString, &status) == 0 else {
            if errno == ENOENT { return }
            throw ControlSocketError(what)
        }
        guard status.st_dev == device, status.st_ino == inode else { return }
        guard unlink(path.systemString) == 0 else { throw ControlSocketError(what) }
    }

    /// Moves the socket to its path with `.` and the id of this process at the end. Blocks on the file system.
    ///
    /// - Throws: if another file has replaced the socket, or it cannot be moved. If only the new path would be too long
    ///   for a client, the socket is removed.
    package func movedAside() throws(ControlSocketError) -> ControlSocketFile {
        let what = "cannot move the control socket \(quoted(path)) aside"
        let lock = try FolderLock(of: path, what)
        defer { lock.unlock() }
        guard isInPlace else { throw ControlSocketError(what, "another file is at its place") }
        var moved = self
        moved.path = "\(path).\(getpid())"
        guard moved.path.systemBytes.count <= HostAddress.longestSocketPath else {
            unlink(path.systemString)
            throw ControlSocketError(what, "the new path would be too long; it was removed")
        }
        guard rename(path.systemString, moved.path.systemString) == 0 else { throw ControlSocketError(what) }
        return moved
    }

    private static func removeStaleSocket(
        at path: String, replacesListener: Bool, _ what: String
    ) throws(ControlSocketError) {
        var status = stat()
        guard lstat(path.systemString, &status) == 0 else {
            if errno == ENOENT { return }
            throw ControlSocketError(what)
        }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw notASocket(what)
        }
        if !replacesListener, try hasListener(path, what) {
            throw ControlSocketError(what, "another host listens there: stop it, or choose another path")
        }
        guard unlink(path.systemString) == 0 || errno == ENOENT else { throw ControlSocketError(what) }
    }

    /// Whether a process listens at the path.
    private static func hasListener(_ path: String, _ what: String) throws(ControlSocketError) -> Bool {
        // Non-blocking, because connecting would wait while the backlog of the other host is full.
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

/// Returns the address of a Unix socket. `path` must have at most ``HostAddress/longestSocketPath`` bytes.
package func socketAddress(_ path: String) -> sockaddr_un {
    let bytes = path.systemBytes
    precondition(bytes.count <= HostAddress.longestSocketPath, "the path of a socket is too long")
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    return address
}

/// Calls `body` with the address of a Unix socket, as ``socketAddress(_:)`` returns it.
func withSocketAddress<Value>(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Value) -> Value {
    withUnsafePointer(to: socketAddress(path)) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
    }
}

/// An advisory lock on the folder of a file. The kernel releases it when the process ends.
private struct FolderLock {
    /// Maximum attempts to get the lock, 10 ms apart.
    private static let attempts = 500

    private let descriptor: Int32

    init(of path: String, _ what: String) throws(ControlSocketError) {
        descriptor = open(ControlSocketFile.folder(of: path).systemString, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw ControlSocketError(what, folderErrno: errno) }
        // Every user who can read the folder can lock it. Waiting without limit would let them block the start of the
        // host.
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
