#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// The file of a Unix socket at which a node listens.
package enum UnixSocketFile {
    /// Only the user of the process and root can connect.
    package static let mode: UInt32 = 0o600

    /// Creates a listening socket at a path. NIO would remove the file when its channel closes, also when another
    /// process has taken over the socket.
    ///
    /// - Parameter mode: the permissions of the file.
    /// - Returns: the descriptor, which the caller owns.
    /// - Throws: ``AstraNetError`` with code `addressInUse` if a process listens there or the file is not a socket, or
    ///   the error of the operating system.
    static func listen(at path: String, mode: UInt32, backlog: CInt) throws(AstraNetError) -> CInt {
        try removeAbandoned(path)
        let descriptor = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw failure(errno) }
        // Linux gives the file the permissions of the socket, so no other user can connect before they are set.
        guard fchmod(descriptor, mode) == 0, withAddress(path, { bind(descriptor, $0, $1) }) == 0,
            // The umask may have removed permissions.
            chmod(path, mode) == 0, Glibc.listen(descriptor, backlog) == 0
        else {
            let error = failure(errno)
            close(descriptor)
            throw error
        }
        return descriptor
    }

    private static func failure(_ code: CInt) -> AstraNetError {
        let kind: AstraNetError.Code =
            switch code {
            case EADDRINUSE: .addressInUse
            case EACCES, EPERM, EROFS: .permissionDenied
            default: .unreachable
            }
        return AstraNetError(kind, String(cString: strerror(code)))
    }

    /// Calls `body` with the address of a socket. The path must fit.
    private static func withAddress(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> CInt) -> CInt {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else {
            errno = ENAMETOOLONG
            return -1
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
    }

    /// Removes a socket that a process has left behind. Does nothing if there is no file.
    ///
    /// - Throws: ``AstraNetError`` with code `addressInUse` if a process listens at the socket, or the file is not a
    ///   socket.
    private static func removeAbandoned(_ path: String) throws(AstraNetError) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw AstraNetError(.addressInUse, "the file there is not a socket")
        }
        guard !hasListener(path) else { throw AstraNetError(.addressInUse, "another process listens there") }
        guard unlink(path) == 0 || errno == ENOENT else {
            throw AstraNetError(
                .addressInUse, "cannot remove the abandoned socket: \(String(cString: strerror(errno)))")
        }
    }

    /// Removes the socket of this process at the end. Blocks shortly on the file system.
    static func remove(_ path: String) {
        var status = stat()
        guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else { return }
        unlink(path)
    }

    private static func hasListener(_ path: String) -> Bool {
        let descriptor = socket(
            AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue) | CInt(SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { return true }
        defer { close(descriptor) }
        let result = withAddress(path) { connect(descriptor, $0, $1) }
        // ECONNREFUSED: no process has the socket open. EAGAIN: its backlog is full.
        return result == 0 || errno != ECONNREFUSED
    }
}
