import AstraNet
import AstraNetTLS
import TestSupport
import Testing

/// Plain and TLS clients on one port.
@Suite(.timeLimit(.minutes(2))) struct FirstByteTests {
    private static func listener(_ mesh: TestMesh, requiresTLS: Bool, splits: Bool = false) async throws -> TestListener
    {
        var settings = mesh.serverSettings
        settings.requiresTLS = requiresTLS
        return try await TestListener(TLSServer(settings), splits: splits)
    }

    @Test func `a plain client is refused where TLS is required`() async throws {
        let listener = try await Self.listener(TestMesh(), requiresTLS: true)
        let (client, server) = try await listener.connect(nil)
        let address = try await client.address
        #expect(
            await server.all() == [
                .insecure(
                    "\(address) sent no TLS handshake, which this listener requires; set up TLS for the client, "
                        + "or let the listener accept plain connections too"),
                .closed,
            ])
        let seen = await client.all()
        #expect(!seen.contains { if case .bytes = $0 { true } else { false } }, "the server sent its greeting")
        try await listener.close()
    }

    @Test(arguments: [false, true]) func `a plain client is accepted where TLS is optional`(splits: Bool) async throws {
        let listener = try await Self.listener(TestMesh(), requiresTLS: false, splits: splits)
        let (client, server) = try await listener.connect(nil)
        #expect(
            try await server.until(text: "hello from the client") == [
                .credentials(PeerCredentials()), .bytes("hello from the client"),
            ])
        #expect(try await client.until(text: "hello from the server") == [.bytes("hello from the server")])
        client.close()
        #expect(await server.all() == [.closed])
        try await listener.close()
    }

    @Test(arguments: [false, true])
    func `a TLS client is verified where TLS is optional, also byte by byte`(splits: Bool) async throws {
        let mesh = try TestMesh()
        let listener = try await Self.listener(mesh, requiresTLS: false, splits: splits)
        let (client, server) = try await listener.connect(TLSClient(mesh.clientSettings))
        let seen = try await server.until(text: "hello from the client")
        guard case .credentials(let credentials) = seen.first else {
            Issue.record("\(seen)")
            return
        }
        #expect(credentials.uris == [TestMesh.clientURI])
        _ = try await client.until(text: "hello from the server")
        client.close()
        try await listener.close()
    }

    @Test func `a TLS client without certificate is refused where TLS is optional`() async throws {
        let mesh = try TestMesh()
        let listener = try await Self.listener(mesh, requiresTLS: false)
        let (client, server) = try await listener.connect(TLSClient(ca: mesh.ca, serverName: "router-1.mesh"))
        guard case .insecure = await server.all().first else {
            Issue.record("the client was accepted")
            return
        }
        client.close()
        try await listener.close()
    }

    @Test(arguments: [false, true])
    func `a client that sends nothing gets nothing until the link closes the connection`(requires: Bool) async throws {
        let listener = try await Self.listener(TestMesh(), requiresTLS: requires)
        let (client, server) = try await listener.connect(nil, greeting: "")
        // A connection that is closed before it is active reports nothing.
        _ = try await server.address
        // The link does this when its handshake timeout has passed.
        server.close()
        #expect(await client.all() == [.closed])
        #expect(await server.all() == [.closed])
        try await listener.close()
    }

    @Test func `a client that stops in the middle of the handshake gets nothing`() async throws {
        let listener = try await Self.listener(TestMesh(), requiresTLS: false)
        // The beginning of a record of 512 bytes.
        let (client, server) = try await listener.connect(nil, greeting: "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}")
        let address = try await client.address
        client.close()
        #expect(
            await server.all() == [
                .insecure("\(address) closed the connection during the TLS handshake"), .closed,
            ])
        try await listener.close()
    }
}
