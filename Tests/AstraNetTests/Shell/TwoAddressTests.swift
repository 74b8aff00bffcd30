import AstraNet
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

/// A DNS name with two addresses of one host, for example `localhost`.
@Suite(.timeLimit(.minutes(5))) struct TwoAddressTests {
    /// The real network, with counters and additional names.
    private struct CountingNetwork: LinkNetwork {
        struct Counts {
            var lookups = 0
            var connects: [SocketAddress] = []
        }

        let names: [String: [SocketAddress]]
        let counts = NIOLockedValueBox(Counts())
        private let real = SocketNetwork()

        init(names: [String: [SocketAddress]] = [:]) {
            self.names = names
        }

        func addresses(of host: String, port: Int, on eventLoop: any EventLoop) -> EventLoopFuture<[SocketAddress]> {
            counts.withLockedValue { $0.lookups += 1 }
            if let known = names[host] { return eventLoop.makeSucceededFuture(known) }
            return real.addresses(of: host, port: port, on: eventLoop)
        }

        func connect(
            to address: SocketAddress, timeout: TimeAmount, on eventLoop: any EventLoop,
            initializer: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
        ) -> EventLoopFuture<any Channel> {
            counts.withLockedValue { $0.connects.append(address) }
            return real.connect(to: address, timeout: timeout, on: eventLoop, initializer: initializer)
        }

        func listen(
            at address: SocketAddress, on group: any EventLoopGroup,
            initializer: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
        ) -> EventLoopFuture<any Channel> {
            real.listen(at: address, on: group, initializer: initializer)
        }
    }

    /// Joins `server` by a name with two of its addresses, uses it meanwhile, and checks that one link remains.
    private func expectOneLinkInTheEnd(
        _ server: Node, _ network: CountingNetwork, host: String, port: Int
    ) async throws {
        let echo = try server.echo("echo")
        var configuration = NodeConfiguration.withoutTimeouts()
        configuration.role = .client
        let client = Node(
            configuration: configuration, group: MultiThreadedEventLoopGroup.singleton, logger: .silent,
            surroundings: NodeDependencies(
                now: { .now }, random: { .random(in: 0...UInt64.max) }, network: network))
        let joining = Task { await client.keepJoined(host: host, port: port) }
        let first = try await client.dial("echo", deadline: .testDeadline)
        let isSettled = NIOLockedValueBox(false)
        let using = Task {
            while !isSettled.withLockedValue({ $0 }) {
                try await client.expectEcho("echo", count: 1_000)
                try await first.expectEcho(count: 10)
            }
        }
        try await eventually { network.counts.withLockedValue { Set($0.connects).count } == 2 }
        // A stream keeps its link open, even if the link is retired. So the stream is closed first.
        isSettled.withLockedValue { $0 = true }
        try await using.value
        first.close()
        try await eventually { client.linkCount == 1 && server.linkCount == 1 }
        // The next lookup changes nothing.
        let before = network.counts.withLockedValue { $0 }
        try await eventually { network.counts.withLockedValue { $0.lookups } > before.lookups }
        try await client.expectEcho("echo", count: 1_000)
        #expect(network.counts.withLockedValue { $0.connects } == before.connects)
        #expect(client.linkCount == 1)
        #expect(server.linkCount == 1)
        joining.cancel()
        await joining.value
        echo.close()
        for node in [client, server] { await node.shutdown() }
    }

    @Test func `a name with two addresses of one host ends with one link`() async throws {
        let server = Node.withoutTimeouts(.server)
        let addresses = [try await server.listening(), try await server.listening()]
        try await expectOneLinkInTheEnd(
            server, CountingNetwork(names: ["both": addresses]), host: "both", port: addresses[0].port!)
    }

    /// The addresses of `localhost`: two if the machine has IPv4 and IPv6 loopback.
    private static let localhost: [SocketAddress] = {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        do {
            return try SocketNetwork().addresses(of: "localhost", port: 1, on: loop).wait()
        } catch {
            return []
        }
    }()

    @Test(
        .enabled(if: localhost.count == 2, "skipped: localhost has one address on this machine"))
    func `localhost with two addresses ends with one link`() async throws {
        let server = Node.withoutTimeouts(.server)
        let address = try await server.listen(host: "127.0.0.1", port: 0)
        try await server.listen(host: "::1", port: address.port!)
        try await expectOneLinkInTheEnd(server, CountingNetwork(), host: "localhost", port: address.port!)
    }
}
