import AstraNet
import Foundation
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

/// A proxy between two nodes. It forwards every byte, with a delay if the test wants one, and records ops in the format
/// of the recordings.
final class RecordingProxy: Sendable {
    private let server: any Channel
    private let lines: NIOLockedValueBox<[WireConversation.Line]>

    var address: SocketAddress { server.localAddress! }

    /// - Parameters:
    ///   - target: the address of the server. The node that connects to the proxy is the client.
    ///   - delay: time for which each byte is held, in each direction; by default none.
    ///   - isKept: whether to record an op; by default every op.
    init(
        to target: SocketAddress, delay: TimeAmount = .zero,
        keeping isKept: @escaping @Sendable (WireOp) -> Bool = { _ in true }
    ) async throws {
        let lines = NIOLockedValueBox<[WireConversation.Line]>([])
        self.lines = lines
        let start = ContinuousClock.now
        let record: @Sendable (WireConversation.Role, WireOp) -> Void = { from, op in
            guard isKept(op) else { return }
            let line = WireConversation.Line(
                ms: Int((ContinuousClock.now - start) / .milliseconds(1)), from: from, op: "\(op.command)",
                dst: op.destination.recorded, src: op.source.recorded, len: op.payload.count,
                hex: WireConversation.hex(op.encoded))
            lines.withLockedValue { $0.append(line) }
        }
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        server = try await ServerBootstrap(group: loop)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.autoRead, value: false)
            .childChannelInitializer { client in
                // Both connections use one event loop, so that the ops are recorded in the order in which they are
                // forwarded.
                ClientBootstrap(group: loop)
                    .channelOption(.tcpOption(.tcp_nodelay), value: 1)
                    .connect(to: target)
                    .flatMapThrowing { server in
                        try server.pipeline.syncOperations.addHandler(
                            ForwardingHandler(to: client, delay: delay) { record(.server, $0) })
                        try client.pipeline.syncOperations.addHandler(
                            ForwardingHandler(to: server, delay: delay) { record(.client, $0) })
                    }
                    .flatMap { client.setOption(.autoRead, value: true) }
            }
            .bind(host: "127.0.0.1", port: 0).get()
    }

    /// The ops recorded so far.
    var recorded: [WireConversation.Line] { lines.withLockedValue { $0 } }

    /// The conversation without PING and PONG, one JSON object per line.
    func recording() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return try lines.withLockedValue { $0 }
            .filter { $0.op != "PING" && $0.op != "PONG" }
            .map { String(decoding: try encoder.encode($0), as: UTF8.self) + "\n" }
            .joined()
    }

    func close() async throws { try await server.close() }
}

/// Forwards bytes, and calls `record` for each complete op.
private final class ForwardingHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let other: any Channel
    private let record: @Sendable (WireOp) -> Void
    private let delay: TimeAmount
    /// Delayed buffers in order; `nil` is the end of the connection. Each timer forwards the first element.
    private var held: CircularBuffer<ByteBuffer?> = []
    private var bytes = ByteBuffer()

    init(to other: any Channel, delay: TimeAmount, record: @escaping @Sendable (WireOp) -> Void) {
        self.other = other
        self.delay = delay
        self.record = record
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let read = unwrapInboundIn(data)
        bytes.writeImmutableBuffer(read)
        while let op = WireOp.take(from: &bytes) { record(op) }
        bytes.discardReadBytes()
        forward(read, on: context.eventLoop)
    }

    func channelInactive(context: ChannelHandlerContext) {
        forward(nil, on: context.eventLoop)
    }

    private func forward(_ read: ByteBuffer?, on eventLoop: any EventLoop) {
        guard delay > .zero else { return writeToOther(read) }
        held.append(read)
        let handler = NIOLoopBound(self, eventLoop: eventLoop)
        eventLoop.scheduleTask(in: delay) { handler.value.writeToOther(handler.value.held.removeFirst()) }
    }

    private func writeToOther(_ read: ByteBuffer?) {
        guard let read else { return other.close(promise: nil) }
        other.writeAndFlush(read, promise: nil)
    }
}
