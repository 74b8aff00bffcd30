import AstraNet
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// A host that offers a service and does not answer because it hangs.
@Suite(.timeLimit(.minutes(5))) struct HangingHostTests {
    /// The hanging host may have received the request, so the node does not send it to another host. Later requests
    /// avoid the hanging host.
    @Test func `a host that does not answer a request is tried last`() async throws {
        let (client, server) = (Node.withoutTimeouts(), Node.withoutTimeouts())
        let hanging = try await HangingHost(at: client)
        let echo = try server.echo("thing")
        try await client.join(server.listening())
        try await eventually { client.services.count == 2 }

        /// Posts a request. Returns whether it was answered.
        func ask() async throws -> Bool {
            do {
                let stream = try await client.dial(
                    "thing", sending: ByteBuffer(string: "?"), deadline: .now + .milliseconds(500))
                let answer = try await stream.receive(deadline: .testDeadline)
                stream.close()
                return answer == ByteBuffer(string: "?")
            } catch let error as AstraNetError where error.code == .deadlineExceeded {
                return false
            }
        }
        // At first each host is picked with the same probability.
        while try await ask() {}
        for _ in 0..<20 { #expect(try await ask()) }
        echo.close()
        await client.shutdown()
        await server.shutdown()
        try await hanging.close()
    }

    @Test func `a host that is silent for two ping intervals is tried last`() async throws {
        let client = Node.withoutTimeouts { $0.pingInterval = .seconds(1) }
        let server = Node.withoutTimeouts()
        let hanging = try await HangingHost(at: client)
        let echo = try server.echo("thing")
        try await client.join(server.listening())
        try await eventually {
            client.services.count == 2 && client.core.directory.silentLinkCount == 1
        }
        for _ in 0..<20 {
            // The bytes are sent with the dial, so this would fail at the silent host.
            let stream = try await client.dial("thing", sending: ByteBuffer(string: "?"), deadline: .testDeadline)
            #expect(try await stream.receive(deadline: .testDeadline) == ByteBuffer(string: "?"))
            stream.close()
        }
        // A host that is heard again is tried again.
        hanging.peer.send(WireOp(.ping, to: .otherEnd, from: Address(hanging.peer.host, 0)))
        try await eventually { client.core.directory.silentLinkCount == 0 }
        echo.close()
        await client.shutdown()
        await server.shutdown()
        try await hanging.close()
    }

    /// Counts the repetitions.
    private final class UnlimitedRepeats: DialRepeats {
        private let count = NIOLockedValueBox(0)

        var taken: Int { count.withLockedValue { $0 } }

        func take() -> Bool {
            count.withLockedValue { $0 += 1 }
            return true
        }

        func giveBack() { count.withLockedValue { $0 -= 1 } }
    }

    @Test func `bytes that may be repeated are sent to the next host`() async throws {
        let (client, server) = (Node.withoutTimeouts { $0.answerTimeout = .milliseconds(50) }, Node.withoutTimeouts())
        let hanging = try await HangingHost(at: client)
        let echo = try server.echo("thing")
        try await client.join(server.listening())
        try await eventually { client.services.count == 2 }
        let repeats = UnlimitedRepeats()
        let request = DialRequest(first: ByteBuffer(string: "?"), repeats: repeats)
        // Each host is picked with the same probability until one has failed.
        while repeats.taken == 0 {
            let stream = try await client.dial("thing", request, deadline: .testDeadline)
            #expect(try await stream.receive(deadline: .testDeadline) == ByteBuffer(string: "?"))
            stream.close()
        }
        #expect(repeats.taken == 1)
        echo.close()
        await client.shutdown()
        await server.shutdown()
        try await hanging.close()
    }

    @Test func `an offer that arrives while the only host does not answer is used`() async throws {
        let (client, server) = (Node.withoutTimeouts { $0.answerTimeout = .milliseconds(50) }, Node.withoutTimeouts())
        let hanging = try await HangingHost(at: client, abilities: "[]")
        let echo = try server.echo("thing")
        let address = try await server.listening()
        async let dialled = client.dial("thing", sending: ByteBuffer(string: "?"), deadline: .testDeadline)
        _ = await hanging.peer.first { $0.command == .dial }
        try await client.join(address)
        let stream = try await dialled
        #expect(try await stream.receive(deadline: .testDeadline) == ByteBuffer(string: "?"))
        stream.close()
        echo.close()
        await client.shutdown()
        await server.shutdown()
        try await hanging.close()
    }

    @Test func `a router refuses dials of a silent host while another host offers the service`() async throws {
        let router = Node.withoutTimeouts {
            $0.role = .router
            $0.pingInterval = .seconds(1)
        }
        let (client, server) = (Node.withoutTimeouts(.client), Node.withoutTimeouts(.server))
        let hanging = try await HangingHost(at: router)
        let address = try await router.listening()
        try await server.join(address)
        try await client.join(address)
        @Sendable func silent() -> Int { router.core.directory.silentLinkCount }
        try await eventually { client.services.count == 1 && silent() == 1 }
        // Without another host the router forwards the dial.
        async let first = client.dial("thing", deadline: .testDeadline)
        let dial = try #require(await hanging.peer.first { $0.command == .dial })
        hanging.peer.send(WireOp(.syn, to: dial.source, from: dial.destination))
        try await first.close()
        let echo = try server.echo("thing")
        try await eventually { client.services.count == 2 && silent() == 1 }
        for _ in 0..<20 { try await client.expectEcho("thing", count: 10) }
        echo.close()
        for node in [client, server, router] { await node.shutdown() }
        try await hanging.close()
        #expect(await hanging.peer.first { $0.command == .dial } == nil)
    }
}

/// A host that offers `thing` and answers nothing after the handshake.
private struct HangingHost {
    private let listener: RawListener
    let peer: RawPeer

    init(at node: Node, abilities: String = #"["eager","refuse"]"#) async throws {
        let listener = try await RawPeer.listen()
        async let joining = node.join(host: "127.0.0.1", port: listener.port, deadline: .testDeadline)
        let peer = try #require(await listener.peers.next())
        (self.listener, self.peer) = (listener, peer)
        #expect(
            await peer.handshake(#"{"RAddr":"127.0.0.1:5555","Abilities":\#(abilities),"MaxOp":262144}"#) == node.id)
        #expect(try await joining == peer.host)
        peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 16_777_217), text: "thing"))
    }

    func close() async throws { try await listener.close() }
}
