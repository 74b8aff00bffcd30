import AstraNet
import NIOCore
import Testing

/// The loss of a host that is reachable through a router and directly.
@Suite(.timeLimit(.minutes(5))) struct DirectLossTests {
    @Test func `a lost direct server ends only its own streams, and another server takes over`() async throws {
        let router = Node.withoutTimeouts(.router)
        let address = try await router.listening()
        let servers = [Node.withoutTimeouts(.server), Node.withoutTimeouts(.server)]
        var echoes: [Listener] = []
        for server in servers {
            try await server.listening()
            echoes.append(try server.echo("echo"))
            try await server.join(address)
        }
        let client = Node.withoutTimeouts {
            $0.role = .client
            // A dial of a lost host must fail because the loss is detected, not by this timeout.
            $0.answerTimeout = .seconds(3_600)
        }
        try await client.join(address)
        try await eventually {
            client.peers == Set([router.id] + servers.map(\.id)) && client.services.count == 4
        }
        var streams: [HostID: AstraNet.MeshStream] = [:]
        while streams.count < 2 {
            let stream = try await client.dial("echo", deadline: .testDeadline)
            #expect(stream.link.peer?.host == stream.remoteAddress.host)
            streams[stream.remoteAddress.host] = stream
        }
        for stream in streams.values { try await stream.expectEcho(count: 1_000) }
        await servers[0].shutdown(grace: .zero)
        let (lost, untouched) = (streams[servers[0].id]!, streams[servers[1].id]!)
        #expect(await lost.failure()?.code == .linkLost)
        for index in 0..<20 {
            let stream = try await client.dial("echo", bucket: "\(index)", deadline: .testDeadline)
            #expect(stream.remoteAddress.host == servers[1].id)
            try await stream.expectEcho(count: 100)
            stream.close()
        }
        try await untouched.expectEcho(count: 100_000)
        try await eventually { Set(client.services.map(\.address.host)) == [servers[1].id] }
        for echo in echoes { echo.close() }
        for node in [client, servers[1], router] { await node.shutdown() }
    }
}
