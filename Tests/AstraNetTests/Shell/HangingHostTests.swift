import AstraNet
import NIOCore
import Testing

/// A host that offers a service and does not answer because it hangs.
@Suite(.timeLimit(.minutes(5))) struct HangingHostTests {
    /// The hanging host may have received the request, so the node does not send it to another host. Later requests
    /// avoid the hanging host.
    @Test func `a host that does not answer a request is tried last`() async throws {
        let (client, server) = (Node.withoutTimeouts(), Node.withoutTimeouts())
        let hanging = try await RawPeer.listen()
        async let joining = client.join(host: "127.0.0.1", port: hanging.port, deadline: .testDeadline)
        let peer = try #require(await hanging.peers.next())
        #expect(
            await peer.handshake(#"{"RAddr":"127.0.0.1:5555","Abilities":["eager","refuse"],"MaxOp":262144}"#)
                == client.id)
        #expect(try await joining == peer.host)
        peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 16_777_217), text: "thing"))
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
}
