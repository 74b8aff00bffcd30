import AstraNet
import NIOCore
import NIOEmbedded

/// One connection between two nodes of this process, on one event loop, without sockets or threads.
///
/// `@unchecked Sendable`: the main thread, the only one, runs the event loop.
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
            guard let accept else { throw AstraNetError(.unreachable, "the node does not listen") }
            let near = End(loop)
            let far = End(loop)
            near.peer = far
            far.peer = near
            _ = try far.start(accept, remote: SocketAddress(ipAddress: "10.0.0.2", port: 2))
            return try near.start(initializer, remote: address)
        }
    }
}

/// One end of the connection. The peer reads its bytes in buffers of the size that nodes use for sockets.
private final class End: ChannelOutboundHandler {
    typealias OutboundIn = ByteBuffer

    /// Size of a read in bytes, the same as in the channels of nodes.
    private static let readSize = 262_144

    private let channel: EmbeddedChannel
    /// The two ends retain each other until the process ends.
    var peer: End?
    /// Buffers that were written and not flushed.
    private var written: [ByteBuffer] = []
    /// Buffers that were flushed and that the peer has not read.
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

    /// Reads the bytes that the peer has sent, copied into full buffers as the operating system does.
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
