import AstraNet
import NIOCore
import NIOEmbedded

/// The network of one incarnation of a node of this library.
///
/// `@unchecked Sendable`: see ``World``.
final class SimulatedNetwork: LinkNetwork, @unchecked Sendable {
    private let internet: Internet
    private let host: Int
    /// Set when the host crashes. After that it makes no more connections.
    var isGone = false

    init(internet: Internet, host: Int) {
        self.internet = internet
        self.host = host
    }

    func addresses(of name: String, port: Int, on eventLoop: any EventLoop) -> EventLoopFuture<[SocketAddress]> {
        if name == "0.0.0.0" { return eventLoop.makeSucceededFuture([Internet.address(of: host)]) }
        if let hosts = internet.names[name] {
            return eventLoop.makeSucceededFuture(hosts.map { Internet.address(of: $0) })
        }
        return eventLoop.makeCompletedFuture {
            do {
                return [try SocketAddress(ipAddress: name, port: port)]
            } catch {
                throw AstraNetError(.unreachable, "unknown host name \(name)")
            }
        }
    }

    func connect(
        to address: SocketAddress, timeout: TimeAmount, on eventLoop: any EventLoop,
        initializer: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
    ) -> EventLoopFuture<any Channel> {
        let promise = eventLoop.makePromise(of: (any Channel).self)
        guard !isGone else {
            promise.fail(AstraNetError(.unreachable, "the host has crashed"))
            return promise.futureResult
        }
        internet.connect(
            from: host, isOurs: true, to: address, timeout: UInt64(timeout.nanoseconds),
            isStillThere: { !self.isGone }
        ) { result in
            switch result {
            case .failure(let error): promise.fail(error)
            case .success(let connection):
                promise.succeed(
                    ChannelEndpoint.start(connection, side: 0, peer: address, initializer))
            }
        }
        return promise.futureResult
    }

    func listen(
        at address: SocketAddress, on group: any EventLoopGroup,
        initializer: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
    ) -> EventLoopFuture<any Channel> {
        let internet = internet
        let server = EmbeddedChannel(loop: internet.world.loop)
        server.localAddress = address
        internet.listen(
            at: address,
            Internet.Acceptor(host: host, isOurs: true) { connection in
                var peer = Internet.address(of: connection.hosts[0])
                peer.port = 20_000 + connection.id % 40_000
                _ = ChannelEndpoint.start(connection, side: 1, peer: peer, initializer)
            })
        server.closeFuture.whenComplete { _ in internet.stopListening(at: address) }
        return internet.world.loop.makeSucceededFuture(server)
    }
}

/// The end of a connection at a node of this library: a channel that uses the connection instead of a socket.
final class ChannelEndpoint: ChannelOutboundHandler, Endpoint {
    typealias OutboundIn = ByteBuffer

    private let channel: EmbeddedChannel
    private let connection: Connection
    private let side: Int

    /// The number of the host at the other end.
    var peerHost: Int { connection.hosts[1 - side] }

    private init(_ connection: Connection, side: Int, channel: EmbeddedChannel) {
        self.connection = connection
        self.side = side
        self.channel = channel
    }

    /// Makes a channel, lets the node make a link from it, and starts it.
    static func start(
        _ connection: Connection, side: Int, peer: SocketAddress,
        _ initializer: @Sendable (any Channel) -> EventLoopFuture<Void>
    ) -> any Channel {
        let channel = EmbeddedChannel(loop: connection.world.loop)
        channel.remoteAddress = peer
        channel.localAddress = Internet.address(of: connection.hosts[side])
        let endpoint = ChannelEndpoint(connection, side: side, channel: channel)
        do {
            try channel.pipeline.syncOperations.addHandler(endpoint)
        } catch {
            preconditionFailure("cannot add a handler to a new channel: \(error)")
        }
        connection.attach(endpoint, side: side)
        let isMade = initializer(channel)
        if connection.world.hostiles.host != nil {
            do {
                try SimulatedSecurity.addProof(to: channel, behind: endpoint)
            } catch {
                preconditionFailure("cannot add a handler to a new channel: \(error)")
            }
        }
        isMade.whenComplete { _ in channel.connect(to: peer, promise: nil) }
        return channel
    }

    // MARK: - From the node

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        connection.write(unwrapOutboundIn(data), from: side)
        promise?.succeed(())
    }

    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        connection.closed(by: side)
        context.close(mode: mode, promise: promise)
    }

    // MARK: - From the connection

    func received(_ bytes: ByteBuffer) {
        channel.pipeline.fireChannelRead(bytes)
        channel.pipeline.fireChannelReadComplete()
    }

    func writabilityChanged(_ isWritable: Bool) {
        channel.isWritable = isWritable
        // In a later turn, not during the write that filled the connection.
        let channel = channel
        channel.embeddedEventLoop.execute { channel.pipeline.fireChannelWritabilityChanged() }
    }

    func disconnected() {
        channel.close(promise: nil)
    }
}
