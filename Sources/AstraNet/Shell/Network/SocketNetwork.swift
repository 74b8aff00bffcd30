package import NIOCore
internal import NIOPosix

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// A TCP network with socket options for links.
package struct SocketNetwork: LinkNetwork {
    /// Maximum size of a read in bytes (256 KiB). Larger reads gain nothing, smaller ones cost more system calls.
    private static let readSize = 256 * 1_024
    /// Numbers of unsent bytes at which a connection becomes writable again (256 KiB) and not writable (1 MiB).
    private static let waterMark = ChannelOptions.Types.WriteBufferWaterMark(low: 256 * 1_024, high: 1 << 20)

    /// Maximum number of connections that wait to be accepted.
    static let backlog: Int32 = 1_024

    package init() {}

    package func addresses(
        of host: String, port: Int, on eventLoop: any EventLoop
    ) -> EventLoopFuture<[SocketAddress]> {
        if let address = try? SocketAddress(ipAddress: host, port: port) {
            return eventLoop.makeSucceededFuture([address])
        }
        // `getaddrinfo` blocks until the system's resolver answers.
        return NIOThreadPool.singleton.runIfActive(eventLoop: eventLoop) { try Self.lookUp(host, port) }
    }

    private static func lookUp(_ host: String, _ port: Int) throws(AstraNetError) -> [SocketAddress] {
        var hints = addrinfo()
        hints.ai_socktype = numericCast(SOCK_STREAM.rawValue)
        hints.ai_protocol = numericCast(IPPROTO_TCP)
        var list: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(host, nil, &hints, &list)
        guard status == 0 else {
            throw AstraNetError(.unreachable, "cannot resolve '\(host)': \(String(cString: gai_strerror(status)))")
        }
        defer { freeaddrinfo(list) }
        var addresses: [SocketAddress] = []
        for entry in sequence(first: list, next: { $0?.pointee.ai_next }) {
            guard let entry = entry?.pointee, let pointer = entry.ai_addr else { break }
            var address: SocketAddress?
            switch entry.ai_family {
            case AF_INET:
                pointer.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { address = SocketAddress($0.pointee) }
            case AF_INET6:
                pointer.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { address = SocketAddress($0.pointee) }
            default: continue
            }
            address?.port = port
            if let address, !addresses.contains(address) { addresses.append(address) }
        }
        guard !addresses.isEmpty else { throw AstraNetError(.unreachable, "\(host) has no address") }
        return addresses
    }

    package func connect(
        to address: SocketAddress, timeout: TimeAmount, on eventLoop: any EventLoop,
        initializer: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
    ) -> EventLoopFuture<any Channel> {
        let client = Self.client(on: eventLoop, initializer).connectTimeout(timeout)
        // A Unix socket has no such option.
        let isTCP = address.ipAddress != nil
        return (isTCP ? client.channelOption(.tcpOption(.tcp_nodelay), value: 1) : client).connect(to: address)
    }

    private static func client(
        on eventLoop: any EventLoop, _ initializer: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
    ) -> ClientBootstrap {
        ClientBootstrap(group: eventLoop)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: readSize))
            .channelOption(.maxMessagesPerRead, value: 4)
            .channelOption(.writeBufferWaterMark, value: waterMark)
            .channelInitializer { channel in
                channel.setCloseOnExec()
                return initializer(channel)
            }
    }

    package func listen(
        at address: SocketAddress, on group: any EventLoopGroup,
        initializer: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
    ) -> EventLoopFuture<any Channel> {
        Self.server(on: group, isTCP: true, initializer)
            .serverChannelOption(.backlog, value: Self.backlog)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .bind(to: address)
    }

    /// Makes a channel of a socket that is bound and listens already. It accepts connections when its option `autoRead`
    /// is set.
    static func adopt(
        _ descriptor: CInt, on group: any EventLoopGroup,
        initializer: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
    ) -> EventLoopFuture<any Channel> {
        let isTCP = SocketAddress(listening: descriptor)?.ipAddress != nil
        let bootstrap = server(on: group, isTCP: isTCP, initializer).serverChannelOption(.autoRead, value: false)
        return bootstrap.withBoundSocket(descriptor).flatMapThrowing { channel in
            // NIO has set its default of 128.
            try channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: CInt.self) {
                setBacklog($0, backlog)
            }
            return channel
        }
    }

    private static func server(
        on group: any EventLoopGroup, isTCP: Bool,
        _ initializer: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
    ) -> ServerBootstrap {
        let bootstrap = ServerBootstrap(group: group)
        return (isTCP ? bootstrap.childChannelOption(.tcpOption(.tcp_nodelay), value: 1) : bootstrap)
            .childChannelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: readSize))
            .childChannelOption(.maxMessagesPerRead, value: 4)
            .childChannelOption(.writeBufferWaterMark, value: waterMark)
            .childChannelInitializer { channel in
                channel.setCloseOnExec()
                return initializer(channel)
            }
    }

    /// Creates a connection from open file descriptors.
    static func attach(
        input: CInt, output: CInt, on eventLoop: any EventLoop,
        initializer: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
    ) -> EventLoopFuture<any Channel> {
        if input == output, isSocket(input) {
            // A socket can end one direction. As two pipes, each would keep the other direction open.
            return client(on: eventLoop, initializer).withConnectedSocket(input)
        }
        let bootstrap = NIOPipeBootstrap(group: eventLoop)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: readSize))
            .channelOption(.maxMessagesPerRead, value: 4)
            .channelOption(.writeBufferWaterMark, value: waterMark)
            .channelInitializer(initializer)
        return input == output
            ? bootstrap.takingOwnershipOfDescriptor(inputOutput: input)
            : bootstrap.takingOwnershipOfDescriptors(input: input, output: output)
    }

    private static func isSocket(_ descriptor: CInt) -> Bool {
        var status = stat()
        return fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK
    }

    /// Returns the error code for a failure to listen.
    package static func listenFailure(_ error: any Error) -> AstraNetError.Code {
        switch (error as? IOError)?.errnoCode {
        case EADDRINUSE: .addressInUse
        case EADDRNOTAVAIL: .addressNotAvailable
        case EACCES: .permissionDenied
        default: .unreachable
        }
    }

    /// Describes the failure of an established connection.
    package static func connectionFailure(_ error: any Error) -> (isReset: Bool, reason: String) {
        switch (error as? IOError)?.errnoCode {
        // The system reports EPIPE for a write after a reset.
        case ECONNRESET, EPIPE: (true, "the connection was reset by the peer")
        default: (false, "the connection failed: \(reason(error))")
        }
    }

    /// Returns whether a connection failed because nothing listens at the address.
    static func isRefused(_ error: any Error) -> Bool {
        switch error {
        case let error as IOError: error.errnoCode == ECONNREFUSED
        case let error as NIOConnectionError: error.connectionErrors.contains { isRefused($0.error) }
        default: false
        }
    }

    /// Returns the system's message of an error, without the NIO error around it.
    package static func reason(_ error: any Error) -> String {
        switch error {
        case let error as AstraNetError: error.message
        case let error as IOError: String(cString: strerror(error.errnoCode))
        case let error as NIOConnectionError:
            error.connectionErrors.first.map { reason($0.error) } ?? "\(error)"
        default: "\(error)"
        }
    }
}

/// Sets the maximum number of connections that wait to be accepted at a listening socket.
private func setBacklog(_ socket: CInt, _ backlog: CInt) {
    _ = listen(socket, backlog)
}

extension SocketAddress {
    /// The address of a socket that listens for TCP connections.
    ///
    /// - Returns: `nil` if the descriptor is no such socket.
    package init?(listening descriptor: CInt) {
        var isListening: CInt = 0
        var length = socklen_t(MemoryLayout<CInt>.size)
        guard getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &isListening, &length) == 0, isListening != 0 else {
            return nil
        }
        var storage = sockaddr_storage()
        length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        guard result == 0 else { return nil }
        switch CInt(storage.ss_family) {
        case AF_INET:
            self.init(
                withUnsafePointer(to: storage) {
                    $0.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { $0.pointee }
                })
        case AF_INET6:
            self.init(
                withUnsafePointer(to: storage) {
                    $0.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { $0.pointee }
                })
        case AF_UNIX:
            self.init(
                withUnsafePointer(to: storage) {
                    $0.withMemoryRebound(to: sockaddr_un.self, capacity: 1) { $0.pointee }
                })
        default: return nil
        }
    }

    /// `ip:port` as Go prints it, for example `127.0.0.1:5555` or `[::1]:5555`, or `unix:/path`; empty for a socket
    /// without a path.
    package var printed: String {
        if let pathname { return pathname.isEmpty ? "" : "unix:\(pathname)" }
        guard let ipAddress, let port else { return "" }
        return HostPort(host: ipAddress, port: port).description
    }
}
