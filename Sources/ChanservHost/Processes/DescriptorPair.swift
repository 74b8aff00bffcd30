internal import Glibc

/// Two ends of a connection: one for this process, one to be inherited. Neither is inherited by accident.
struct DescriptorPair {
    let near: Int32
    let far: Int32

    /// Two connected stream sockets.
    ///
    /// - Throws: ``ProcessError``.
    static func sockets() throws(ProcessError) -> DescriptorPair {
        var ends: [Int32] = [0, 0]
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else {
            throw ProcessError("cannot make a connection", code: errno)
        }
        for end in ends { enlarge(end) }
        return DescriptorPair(near: ends[0], far: ends[1])
    }

    /// A pipe that is read here.
    ///
    /// - Throws: ``ProcessError``.
    static func pipe() throws(ProcessError) -> DescriptorPair {
        var ends: [Int32] = [0, 0]
        guard Glibc.pipe(&ends) == 0 else { throw ProcessError("cannot make a pipe", code: errno) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        return DescriptorPair(near: ends[0], far: ends[1])
    }

    /// Bytes that may be under way on a socket: 4 MiB where this process may have them, else what the system allows.
    private static let underWay: Int32 = 4 << 20

    private static func enlarge(_ socket: Int32) {
        var size = underWay
        let length = socklen_t(MemoryLayout<Int32>.size)
        if setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &size, length) != 0 {
            // The system cuts it to its limit.
            _ = setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &size, length)
        }
    }

    func close() {
        Glibc.close(near)
        Glibc.close(far)
    }
}
