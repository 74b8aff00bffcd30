import AstraNet
import AstraNetTLS
import Foundation
import Logging
import NIOCore
import NIOPosix
import Testing

/// Connections to a node with TLS that do not finish their handshake, or repeat that of another one.
///
/// For the full size set `CHANSERV_TEST_STALLED=5000`.
@Suite(.timeLimit(.minutes(10))) struct StalledHandshakeTests {
    private static let stalled = ProcessInfo.processInfo.environment["CHANSERV_TEST_STALLED"].flatMap(Int.init) ?? 300

    private static func node(_ configure: (inout NodeConfiguration) -> Void = { _ in }) -> Node {
        var configuration = NodeConfiguration()
        configure(&configuration)
        return Node(configuration: configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    private static func connect(_ address: SocketAddress) async throws -> any Channel {
        try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton).connect(to: address).get()
    }

    @Test func `stalled handshakes do not affect other links, and end at the timeout of the handshake`() async throws {
        let mesh = try TestMesh()
        let node = Self.node { $0.handshakeTimeout = .seconds(5) }
        let echo = try node.bind("echo")
        let echoing = Task {
            while true {
                let stream = try await echo.nextStream()
                if let bytes = try await stream.receive() { try await stream.send(bytes) }
                stream.close()
            }
        }
        let address = try await node.listen(
            at: .tcp(host: "127.0.0.1", port: 0), security: try TLSServer(mesh.serverSettings))
        // The beginning of a ClientHello: a record that announces 512 bytes.
        let hello = ByteBuffer(bytes: [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xFC, 0x03, 0x03])
        var channels: [any Channel] = []
        for index in 0..<Self.stalled {
            let channel = try await Self.connect(address)
            // Some send nothing at all.
            if !index.isMultiple(of: 3) { try await channel.writeAndFlush(hello).get() }
            channels.append(channel)
        }
        let client = Self.node()
        try await client.join(
            .tcp(host: "127.0.0.1", port: address.port!), security: try TLSClient(mesh.clientSettings),
            deadline: .now + .seconds(90))
        for _ in 0..<20 {
            let stream = try await client.dial("echo", deadline: .now + .seconds(90))
            try await stream.send(ByteBuffer(string: "hello"))
            #expect(try await stream.receive(deadline: .now + .seconds(90)) == ByteBuffer(string: "hello"))
            stream.close()
        }
        for channel in channels { try await channel.closeFuture.get() }
        #expect(client.linkCount == 1)
        echo.close()
        _ = await echoing.result
        await client.shutdown()
        await node.shutdown()
    }

    @Test func `a captured handshake that is replayed opens no link`() async throws {
        let mesh = try TestMesh()
        let node = Self.node()
        let address = try await node.listen(
            at: .tcp(host: "127.0.0.1", port: 0), security: try TLSServer(mesh.serverSettings))
        let capture = try await Capture(of: address)
        let client = Self.node()
        try await client.join(
            .tcp(host: "127.0.0.1", port: capture.address.port!), security: try TLSClient(mesh.clientSettings),
            deadline: .now + .seconds(90))
        await client.shutdown()
        let bytes = try await capture.end()
        #expect(bytes.readableBytes > 500)

        let replay = try await Self.connect(address)
        try await replay.writeAndFlush(bytes).get()
        try await replay.closeFuture.get()
        #expect(node.linkCount == 0)
        #expect(node.refused.insecure == 1)
        await node.shutdown()
    }

    /// A proxy that keeps what the first client sends.
    private final class Capture: Sendable {
        let address: SocketAddress
        private let server: any Channel
        private let captured: EventLoopPromise<ByteBuffer>

        init(of target: SocketAddress) async throws {
            let promise = MultiThreadedEventLoopGroup.singleton.next().makePromise(of: ByteBuffer.self)
            captured = promise
            server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .childChannelOption(.autoRead, value: false)
                .childChannelInitializer { client in
                    let relay = ClientBootstrap(group: client.eventLoop).channelInitializer { server in
                        server.eventLoop.makeCompletedFuture {
                            try server.pipeline.syncOperations.addHandler(Relay(to: client, nil))
                        }
                    }.connect(to: target)
                    return relay.flatMapThrowing { server in
                        try client.pipeline.syncOperations.addHandler(Relay(to: server, promise))
                        try client.syncOptions?.setOption(.autoRead, value: true)
                    }
                }
                .bind(host: "127.0.0.1", port: 0).get()
            address = server.localAddress!
        }

        /// Waits for the end of the client and returns its bytes.
        func end() async throws -> ByteBuffer {
            let bytes = try await captured.futureResult.get()
            try await server.close()
            return bytes
        }

        private final class Relay: ChannelInboundHandler {
            typealias InboundIn = ByteBuffer
            private let target: any Channel
            private let captured: EventLoopPromise<ByteBuffer>?
            private var bytes = ByteBuffer()

            init(to target: any Channel, _ captured: EventLoopPromise<ByteBuffer>?) {
                self.target = target
                self.captured = captured
            }

            func channelRead(context: ChannelHandlerContext, data: NIOAny) {
                let part = unwrapInboundIn(data)
                if captured != nil { bytes.writeImmutableBuffer(part) }
                target.writeAndFlush(part, promise: nil)
            }

            func channelInactive(context: ChannelHandlerContext) {
                captured?.succeed(bytes)
                target.close(promise: nil)
            }
        }
    }
}
