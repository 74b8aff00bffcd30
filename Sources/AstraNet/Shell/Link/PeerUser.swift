internal import NIOCore

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#endif

extension ChannelHandlerContext {
    /// The user ID of the process at the other end of a Unix socket (`SO_PEERCRED`, unix(7)); `nil` for other channels.
    /// It is that of the process at the time of `connect` or `listen`. Event loop only.
    var userOfPeer: UInt32? {
        do {
            let user = try pipeline.syncOperations.withUnsafeTransportIfAvailable(of: CInt.self) { socket -> UInt32? in
                var domain: CInt = 0
                var length = socklen_t(MemoryLayout<CInt>.size)
                guard getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0, domain == AF_UNIX else {
                    return nil
                }
                // `ucred` of Linux, which Glibc's module leaves out: pid, uid, gid.
                var credentials: (pid: Int32, user: UInt32, group: UInt32) = (0, 0, 0)
                length = socklen_t(MemoryLayout.size(ofValue: credentials))
                guard getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0 else { return nil }
                return credentials.user
            }
            return user ?? nil
        } catch {
            // The channel is closed.
            return nil
        }
    }
}

extension LinkOrigin {
    /// Whether the user at the other end of a Unix socket is an identity: not for a socket that the caller made.
    var verifiesUser: Bool {
        if case .attached = self { false } else { true }
    }
}
