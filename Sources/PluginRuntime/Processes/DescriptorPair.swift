internal import Glibc

/// Two ends of a connection: one for this process and one for a child. Both are close-on-exec.
package struct DescriptorPair {
    package let near: Int32
    package let far: Int32

    /// Creates two connected stream sockets.
    ///
    /// - Throws: ``ProcessError``.
    package static func sockets() throws(ProcessError) -> DescriptorPair {
        var ends: [Int32] = [0, 0]
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else {
            throw ProcessError("cannot create a socket pair", code: errno)
        }
        for end in ends { enlarge(end) }
        return DescriptorPair(near: ends[0], far: ends[1])
    }

    /// Creates a pipe. This process reads from it.
    ///
    /// - Throws: ``ProcessError``.
    package static func pipe() throws(ProcessError) -> DescriptorPair {
        var ends: [Int32] = [0, 0]
        guard Glibc.pipe(&ends) == 0 else { throw ProcessError("cannot create a pipe", code: errno) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        return DescriptorPair(near: ends[0], far: ends[1])
    }

    /// Send buffer of a socket: 4 MiB if this process has the right to set it, otherwise the system's maximum.
    private static let sendBufferSize: Int32 = 4 << 20

    private static func enlarge(_ socket: Int32) {
        var size = sendBufferSize
        let length = socklen_t(MemoryLayout<Int32>.size)
        if setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &size, length) != 0 {
            // The system limits the size to its maximum.
            _ = setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &size, length)
        }
    }

    package func close() {
        Glibc.close(near)
        Glibc.close(far)
    }
}
