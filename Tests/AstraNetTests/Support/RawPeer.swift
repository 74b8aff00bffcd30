import AstraNet
import NIOCore
import NIOPosix

/// A socket to a node on which a test sends arbitrary bytes. It sends nothing by itself.
final class RawPeer: Sendable {
    let channel: any Channel
    /// The host id that it claims.
    let host: HostID
    /// All received ops; ends with the connection.
    let ops: EventQueue<WireOp>

    private init(channel: any Channel, host: HostID, ops: EventQueue<WireOp>) {
        self.channel = channel
        self.host = host
        self.ops = ops
    }

    /// - Parameters:
    ///   - address: the address at which a node listens.
    ///   - host: the host id to claim.
    ///   - reads: whether to read from the socket.
    ///   - receive: called on the event loop for each op; by default it appends the op to ``ops``.
    static func connect(
        to address: SocketAddress, host: HostID = .random(), reads: Bool = true,
        receive: (@Sendable (WireOp) -> Void)? = nil
    ) async throws -> RawPeer {
        let ops = EventQueue<WireOp>()
        let channel = try await bootstrap(receive: receive ?? { ops.append($0) }, finish: ops.finish)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(.autoRead, value: reads)
            .connect(to: address).get()
        return RawPeer(channel: channel, host: host, ops: ops)
    }

    /// Uses the peer's end of a socket pair whose other end a node uses.
    static func attached(to socket: CInt, host: HostID = .random()) async throws -> RawPeer {
        let ops = EventQueue<WireOp>()
        let channel = try await bootstrap(receive: { ops.append($0) }, finish: ops.finish)
            .withConnectedSocket(socket).get()
        return RawPeer(channel: channel, host: host, ops: ops)
    }

    private static func bootstrap(
        receive: @escaping @Sendable (WireOp) -> Void, finish: @escaping @Sendable () -> Void
    ) -> ClientBootstrap {
        ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton).channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandler(OpCollector(receive: receive, finish: finish))
            }
        }
    }

    /// Listens for nodes. Each connection becomes a peer.
    ///
    /// - Parameter host: the host id to claim; by default a random one for each connection.
    static func listen(host: HostID? = nil) async throws -> RawListener {
        let peers = EventQueue<RawPeer>()
        let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let ops = EventQueue<WireOp>()
                    try channel.pipeline.syncOperations.addHandler(
                        OpCollector(receive: { ops.append($0) }, finish: ops.finish))
                    peers.append(RawPeer(channel: channel, host: host ?? .random(), ops: ops))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        return RawListener(server: server, peers: peers)
    }

    /// Starts slow reading on a peer that was connected with `reads: false`: at most 64 KiB every millisecond.
    func readSlowly() async throws {
        try await channel.setOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 65_536)).get()
        try await channel.setOption(.maxMessagesPerRead, value: 1).get()
        let channel = channel
        channel.eventLoop.scheduleRepeatedTask(initialDelay: .zero, delay: .milliseconds(1)) { task in
            guard channel.isActive else { return task.cancel() }
            channel.read()
        }
    }

    func send(_ op: WireOp) { send(op.encoded) }

    func send(_ ops: [WireOp]) { send(ops.flatMap(\.encoded)) }

    func send(_ bytes: [UInt8]) {
        channel.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil)
    }

    /// Writes and waits until the socket has taken all bytes. Returns `false` if the connection was lost.
    func sendAll(_ bytes: [UInt8]) async -> Bool {
        do {
            try await channel.writeAndFlush(ByteBuffer(bytes: bytes)).get()
            return true
        } catch {
            return false
        }
    }

    /// Sends a HANDSHAKE; by default the one of a Go node.
    func sendHandshake(_ json: String = #"{"RAddr":"127.0.0.1:5555"}"#) {
        send(WireOp(.handshake, to: .otherEnd, from: Address(host, 0), text: json))
    }

    /// Does the handshake. Returns the host id of the node.
    func handshake(_ json: String = #"{"RAddr":"127.0.0.1:5555"}"#) async -> HostID? {
        sendHandshake(json)
        return await first { $0.command == .handshake }?.source.host
    }

    /// Waits for an op that satisfies `condition` and drops the ops before it. Returns `nil` at the end of the
    /// connection.
    func first(where condition: (WireOp) -> Bool) async -> WireOp? {
        while let op = await ops.next() {
            if condition(op) { return op }
        }
        return nil
    }

    /// Waits for an op with `command` and drops the ops before it.
    func first(_ command: Command) async -> WireOp? {
        await first { $0.command == command }
    }

    /// Sends PING and returns the ops that arrive before the PONG, without PINGs: everything that the node had to send.
    func opsUntilPong() async -> [WireOp] {
        send(WireOp(.ping, to: .otherEnd, from: Address(host, 0)))
        var ops: [WireOp] = []
        while let op = await self.ops.next(), op.command != .pong { ops.append(op) }
        return ops.filter { $0.command != .ping }
    }

    /// Waits until the connection is closed.
    func closed() async {
        while await ops.next() != nil {}
    }

    func close() async {
        channel.close(promise: nil)
        await closed()
    }
}

/// A listening socket that nodes can join.
struct RawListener: Sendable {
    let server: any Channel
    let peers: EventQueue<RawPeer>

    var port: Int { server.localAddress!.port! }

    func close() async throws { try await server.close() }
}

/// Splits received bytes into ops.
private final class OpCollector: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let receive: @Sendable (WireOp) -> Void
    private let finish: @Sendable () -> Void
    private var bytes = ByteBuffer()

    init(receive: @escaping @Sendable (WireOp) -> Void, finish: @escaping @Sendable () -> Void) {
        self.receive = receive
        self.finish = finish
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        bytes.writeImmutableBuffer(unwrapInboundIn(data))
        while let op = WireOp.take(from: &bytes) { receive(op) }
        bytes.discardReadBytes()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        finish()
    }
}
