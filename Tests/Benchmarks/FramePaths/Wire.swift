import AstraNet
import NIOCore
import NIOEmbedded

/// One connection between two nodes of this process, on one event loop: no socket, no thread, no waiting.
///
/// `@unchecked Sendable`: the event loop is run by the main thread, which is the only one there is.
final class Wire: LinkNetwork, @unchecked Sendable {
    private let loop: EmbeddedEventLoop
    private var accept: (@Sendable (any Channel) -> EventLoopFuture<Void>)?

    init(on loop: EmbeddedEventLoop) {
        self.loop = loop
    }

    func addresses(of host: String, port: Int, on eventLoop: any EventLoop) -> EventLoopFuture<[SocketAddress]> {
        eventLoop.makeCompletedFuture { [try SocketAddress(ipAddress: host, port: port)] }
    }

    func listen(
        at address: SocketAddress, on group: any EventLoopGroup,
        initializer: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
    ) -> EventLoopFuture<any Channel> {
        accept = initializer
        let server = EmbeddedChannel(loop: loop)
        server.localAddress = address
        return loop.makeSucceededFuture(server)
    }

    func connect(
        to address: SocketAddress, timeout: TimeAmount, on eventLoop: any EventLoop,
        initializer: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
    ) -> EventLoopFuture<any Channel> {
        eventLoop.makeCompletedFuture {
            guard let accept else { throw AstraNetError(.unreachable, "nobody listens") }
            let near = End(loop)
            let far = End(loop)
            near.peer = far
            far.peer = near
            _ = try far.start(accept, remote: SocketAddress(ipAddress: "10.0.0.2", port: 2))
            return try near.start(initializer, remote: address)
        }
    }
}

/// One end of the connection: what is written to it is read at the other end, in pieces as large as a socket's.
private final class End: ChannelOutboundHandler {
    typealias OutboundIn = ByteBuffer

    /// As the nodes' own channels read.
    private static let readSize = 262_144

    private let channel: EmbeddedChannel
    /// Ends hold each other: the process ends with them.
    var peer: End?
    /// Written and not flushed.
    private var written: [ByteBuffer] = []
    /// Flushed, and not read at the other end.
    private var sent: [ByteBuffer] = []

    init(_ loop: EmbeddedEventLoop) {
        channel = EmbeddedChannel(loop: loop)
    }

    func start(
        _ initializer: @Sendable (any Channel) -> EventLoopFuture<Void>, remote: SocketAddress
    ) throws -> any Channel {
        channel.remoteAddress = remote
        channel.localAddress = try SocketAddress(ipAddress: "10.0.0.3", port: 3)
        try channel.pipeline.syncOperations.addHandler(self)
        let channel = channel
        initializer(channel).whenComplete { _ in channel.connect(to: remote, promise: nil) }
        return channel
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        written.append(unwrapOutboundIn(data))
        promise?.succeed(())
    }

    func flush(context: ChannelHandlerContext) {
        guard !written.isEmpty else { return }
        let isFirst = sent.isEmpty
        sent += written
        written.removeAll(keepingCapacity: true)
        if isFirst {
            let peer = peer
            context.eventLoop.assumeIsolated().execute { peer?.read() }
        }
    }

    /// Takes what the other end has sent, copied together as the system does.
    private func read() {
        guard let peer else { return }
        var pieces: [ByteBuffer] = []
        swap(&pieces, &peer.sent)
        var piece = channel.allocator.buffer(capacity: Self.readSize)
        for var bytes in pieces {
            while bytes.readableBytes > 0 {
                let length = min(bytes.readableBytes, Self.readSize - piece.readableBytes)
                if var part = bytes.readSlice(length: length) { piece.writeBuffer(&part) }
                guard piece.readableBytes == Self.readSize else { continue }
                channel.pipeline.fireChannelRead(piece)
                piece = channel.allocator.buffer(capacity: Self.readSize)
            }
        }
        if piece.readableBytes > 0 { channel.pipeline.fireChannelRead(piece) }
        channel.pipeline.fireChannelReadComplete()
    }
}
