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

    /// Sets the permissions of a socket that was created with ``mode``.
    static func set(_ mode: UInt32, of path: String) throws(AstraNetError) {
        guard chmod(path, mode) == 0 else {
            throw AstraNetError(
                .permissionDenied, "cannot set the permissions of the socket: \(String(cString: strerror(errno)))")
        }
    }

    /// Removes a socket that a process has left behind. Does nothing if there is no file.
    ///
    /// - Throws: ``AstraNetError`` with code `addressInUse` if a process listens at the socket, or the file is not a
    ///   socket.
    static func removeAbandoned(_ path: String) throws(AstraNetError) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw AstraNetError(.addressInUse, "the file there is not a socket")
        }
        guard !hasListener(path) else { throw AstraNetError(.addressInUse, "another process listens there") }
        guard unlink(path) == 0 || errno == ENOENT else {
            throw AstraNetError(.addressInUse, "cannot remove the abandoned socket: \(String(cString: strerror(errno)))")
        }
    }

    /// Removes the socket of this process at the end. Blocks shortly on the file system.
    static func remove(_ path: String) {
        var status = stat()
        guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else { return }
        unlink(path)
    }

    private static func hasListener(_ path: String) -> Bool {
        let descriptor = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue) | CInt(SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { return true }
        defer { close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let capacity = MemoryLayout.size(ofValue: address.sun_path)
        guard path.utf8.count < capacity else { return false }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        // ECONNREFUSED: no process has the socket open. EAGAIN: its backlog is full.
        return result == 0 || errno != ECONNREFUSED
    }
}
