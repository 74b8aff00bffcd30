import AstraNet
import AstraNetTLS
import Foundation
import TestSupport
import Testing

/// Handshakes between ``TLSServer`` and ``TLSClient`` over real sockets.
@Suite(.timeLimit(.minutes(2))) struct HandshakeTests {
    @Test func `both ends of a mutual handshake get the names and the key of the other`() async throws {
        let mesh = try TestMesh()
        let listener = try await TestListener(TLSServer(mesh.serverSettings))
        let (client, server) = try await listener.connect(TLSClient(mesh.clientSettings))
        let atClient = try await client.until(text: "hello from the server")
        let atServer = try await server.until(text: "hello from the client")
        let keys = try [mesh.server, mesh.client].map {
            try #require(CertificateSummary.summaries(file: $0.certificate).first).keyFingerprint
        }
        #expect(
            atClient == [
                .credentials(
                    PeerCredentials(
                        uris: [TestMesh.serverURI], dnsNames: ["router-1.mesh"], keyFingerprint: keys[0])),
                .bytes("hello from the server"),
            ])
        #expect(
            atServer == [
                .credentials(PeerCredentials(uris: [TestMesh.clientURI], keyFingerprint: keys[1])),
                .bytes("hello from the client"),
            ])
        client.close()
        #expect(await server.all() == [.closed])
        #expect(await client.all() == [.closed])
        try await listener.close()
    }

    @Test func `a server without client CA gives its clients no credentials`() async throws {
        let mesh = try TestMesh()
        var settings = mesh.serverSettings
        settings.clientCA = nil
        let listener = try await TestListener(TLSServer(settings))
        let (client, server) = try await listener.connect(TLSClient(ca: mesh.ca, serverName: "router-1.mesh"))
        _ = try await client.until(text: "hello from the server")
        let seen = try await server.until(text: "hello from the client")
        #expect(seen == [.credentials(PeerCredentials()), .bytes("hello from the client")])
        client.close()
        try await listener.close()
    }

    @Test func `one megabyte passes in each direction`() async throws {
        let mesh = try TestMesh()
        let text = String(repeating: "0123456789abcdef", count: 1 << 16)
        let listener = try await TestListener(TLSServer(mesh.serverSettings))
        let (client, server) = try await listener.connect(TLSClient(mesh.clientSettings))
        _ = try await client.until(text: "hello from the server")
        _ = try await server.until(text: "hello from the client")
        client.send(text)
        server.send(text)
        _ = try await client.until(text: text)
        _ = try await server.until(text: text)
        client.close()
        try await listener.close()
    }

    /// Connects, and returns the events of the client up to the end of the connection.
    private func clientEvents(
        _ server: TLSServerSettings, _ client: TLSClientSettings
    ) async throws -> (events: [EndEvent], server: String, atServer: [EndEvent]) {
        let listener = try await TestListener(TLSServer(server))
        let (clientEnd, serverEnd) = try await listener.connect(TLSClient(client))
        let events = await clientEnd.all()
        let atServer = await serverEnd.all()
        try await listener.close()
        return (events, listener.address.printed, atServer)
    }

    @Test(arguments: ["router-2.mesh", "127.0.0.2"])
    func `a wrong name is refused with the expected and the presented names`(name: String) async throws {
        let mesh = try TestMesh()
        var settings = mesh.clientSettings
        settings.serverName = name
        let (events, address, atServer) = try await clientEvents(mesh.serverSettings, settings)
        #expect(
            events == [
                .insecure(
                    "the certificate of \(address) is for 'router-1.mesh', '127.0.0.1', not for '\(name)'; set the "
                        + "server name to a name of the certificate, or renew the certificate with this name"),
                .closed,
            ])
        #expect(!atServer.contains { if case .bytes = $0 { true } else { false } }, "the client sent its greeting")
    }

    @Test func `a certificate without alternative names has no name, whatever its common name`() async throws {
        let mesh = try TestMesh(server: TestLeaf(commonName: "router-1.mesh"))
        let (events, address, _) = try await clientEvents(mesh.serverSettings, mesh.clientSettings)
        #expect(
            events == [
                .insecure(
                    "the certificate of \(address) is for no host name, not for 'router-1.mesh'; set the server name to "
                        + "a name of the certificate, or renew the certificate with this name"),
                .closed,
            ])
    }

    @Test(arguments: ["127.0.0.1", nil]) func `an address and no name are accepted`(name: String?) async throws {
        let mesh = try TestMesh()
        var settings = mesh.clientSettings
        settings.serverName = name
        let listener = try await TestListener(TLSServer(mesh.serverSettings))
        let (client, _) = try await listener.connect(TLSClient(settings))
        _ = try await client.until(text: "hello from the server")
        client.close()
        try await listener.close()
    }

    @Test func `an unknown CA of the server is named`() async throws {
        let mesh = try TestMesh()
        var settings = mesh.clientSettings
        settings.ca = try TestAuthority("another CA").write("other", in: mesh.folder)
        let (events, address, atServer) = try await clientEvents(mesh.serverSettings, settings)
        #expect(
            events == [
                .insecure(
                    "the certificate of \(address) is issued by 'CN=test CA', which is not one of the CAs in "
                        + "\(settings.ca!); add this CA to the file, or have the peer send the certificates of "
                        + "intermediate CAs"),
                .closed,
            ])
        guard case .insecure(let message) = atServer.first else {
            Issue.record("the server saw \(atServer)")
            return
        }
        #expect(
            message.hasSuffix(
                "refused the certificate of this listener: it does not know the CA; use a "
                    + "certificate of a CA that the peer trusts"))
    }

    @Test func `two CAs of one name are told apart`() async throws {
        let mesh = try TestMesh()
        var settings = mesh.clientSettings
        settings.ca = try TestAuthority().write("other", in: mesh.folder)
        let (events, address, _) = try await clientEvents(mesh.serverSettings, settings)
        #expect(
            events.first
                == .insecure(
                    "the certificate of \(address) is issued by another CA with the name 'CN=test CA' than the one in "
                        + "\(settings.ca!); use certificates of one CA on both sides"))
    }

    @Test func `an expired certificate is refused with the date`() async throws {
        let mesh = try TestMesh(
            server: TestLeaf(dnsNames: ["router-1.mesh"], lifetime: -86_400 * 2 ... -86_400))
        let (events, address, _) = try await clientEvents(mesh.serverSettings, mesh.clientSettings)
        let expiry = try #require(CertificateSummary.summaries(file: mesh.server.certificate).first).expiry
        #expect(events == [.insecure("the certificate of \(address) expired on \(expiry); renew it"), .closed])
    }

    @Test func `a certificate that is not valid yet is refused with the date`() async throws {
        let mesh = try TestMesh(server: TestLeaf(dnsNames: ["router-1.mesh"], lifetime: 86_400...86_400 * 2))
        let (events, address, _) = try await clientEvents(mesh.serverSettings, mesh.clientSettings)
        guard case .insecure(let message) = events.first else {
            Issue.record("\(events)")
            return
        }
        #expect(message.hasPrefix("the certificate of \(address) is valid only from "))
        #expect(message.hasSuffix("; check the clocks of both machines"))
    }

    @Test func `an expired CA is named`() async throws {
        let mesh = try TestMesh(authority: TestAuthority(lifetime: -86_400 * 2 ... -86_400))
        let (events, address, _) = try await clientEvents(mesh.serverSettings, mesh.clientSettings)
        guard case .insecure(let message) = events.first else {
            Issue.record("\(events)")
            return
        }
        #expect(
            message.hasPrefix(
                "the certificate of \(address) cannot be verified: the CA 'CN=test CA' in \(mesh.ca) expired on "))
    }

    @Test func `a client certificate is no server certificate, and the reverse`() throws {
        let mesh = try TestMesh(
            server: TestLeaf(dnsNames: ["router-1.mesh"], usages: [.clientAuth]),
            client: TestLeaf(uris: [TestMesh.clientURI], usages: [.serverAuth]))
        let server = #expect(throws: TLSFileError.self) { try TLSServer.load(mesh.serverSettings) }
        #expect(server?.problem.contains("may not be used by a server") == true, "\(server as Any)")
        #expect(server?.remedy.contains("certificates new --host") == true)
        let client = #expect(throws: TLSFileError.self) { try TLSClient.load(mesh.clientSettings) }
        #expect(client?.problem.contains("may not be used by a client") == true, "\(client as Any)")
    }

    @Test func `a key that others could not verify is refused`() async throws {
        let folder = try TestFolder()
        let (certificate, key) = (folder.file("ed.pem"), folder.file("ed.key"))
        let made = try await ChildProcess(
            "/usr/bin/openssl",
            ["req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=x", "-keyout", key, "-out", certificate]
        ).exit()
        try #require(made.code == 0, "\(made.errors)")
        let error = #expect(throws: TLSFileError.self) {
            try TLSServer.load(TLSServerSettings(certificate: certificate, key: key))
        }
        #expect(error?.problem.contains("cannot use the type of this certificate's key") == true, "\(error as Any)")
    }

    @Test func `the content of a key is never printed`() throws {
        let mesh = try TestMesh()
        let pem = try String(contentsOfFile: mesh.server.key, encoding: .utf8)
        let secret = pem.split(separator: "\n")[1]
        let line = try mesh.folder.write(pem.replacing("\n", with: ""), to: "line.key", mode: 0o600)
        for key in [line, pem, pem.replacing("\n", with: "\\n")] {
            let error = #expect(throws: TLSFileError.self) {
                try TLSServer.load(TLSServerSettings(certificate: mesh.server.certificate, key: key))
            }
            #expect(!"\(error as Any)".contains(secret), "\(error as Any)")
        }
    }

    @Test func `a client without certificate is refused at both ends`() async throws {
        let mesh = try TestMesh()
        let settings = TLSClientSettings(ca: mesh.ca, serverName: "router-1.mesh")
        let listener = try await TestListener(TLSServer(mesh.serverSettings))
        let (client, server) = try await listener.connect(TLSClient(settings))
        let address = try await client.address
        let atServer = await server.all()
        let atClient = await client.all()
        #expect(
            atServer == [
                .insecure(
                    "\(address) has no client certificate, which this listener requires; give the client a "
                        + "certificate of one of the CAs in \(mesh.ca)"),
                .closed,
            ])
        #expect(
            atClient.contains(
                .insecure(
                    "\(listener.address.printed) requires a client certificate; set a certificate and its key")))
        #expect(atClient.last == .closed)
        try await listener.close()
    }

    @Test func `a client with a certificate of another CA is refused at both ends`() async throws {
        let (mesh, other) = (try TestMesh(), try TestMesh(authority: TestAuthority("another CA")))
        var settings = mesh.clientSettings
        (settings.certificate, settings.key) = (other.client.certificate, other.client.key)
        let listener = try await TestListener(TLSServer(mesh.serverSettings))
        let (client, server) = try await listener.connect(TLSClient(settings))
        let address = try await client.address
        #expect(
            await server.all().first
                == .insecure(
                    "the certificate of \(address) is issued by 'CN=another CA', which is not one of the CAs in "
                        + "\(mesh.ca); add this CA to the file, or have the peer send the certificates of intermediate "
                        + "CAs"))
        #expect(
            await client.all().contains(
                .insecure(
                    "\(listener.address.printed) refused the client certificate of this node: it does not know the CA; "
                        + "use a certificate of a CA that the peer trusts")))
        try await listener.close()
    }

    @Test(arguments: [65, 1]) func `a certificate with too many or too long names is refused`(count: Int) async throws {
        let uris = (0..<count).map { "spiffe://mesh/\($0)/" + String(repeating: "x", count: count == 1 ? 1_024 : 1) }
        let mesh = try TestMesh(client: TestLeaf(uris: uris))
        let listener = try await TestListener(TLSServer(mesh.serverSettings))
        let (client, server) = try await listener.connect(TLSClient(mesh.clientSettings))
        let address = try await client.address
        let reason = count == 1 ? "it has a name of more than 512 bytes" : "it has more than 64 names"
        #expect(
            await server.all() == [
                .insecure("the certificate of \(address) is refused: \(reason); renew it"), .closed,
            ])
        client.close()
        try await listener.close()
    }

    @Test func `a client says that the server does not use TLS`() async throws {
        let mesh = try TestMesh()
        let listener = try await TestListener(nil)
        let (client, _) = try await listener.connect(TLSClient(mesh.clientSettings))
        #expect(
            await client.all() == [
                .insecure(
                    "\(listener.address.printed) sent bytes that are not TLS; it is another kind of server, or does not "
                        + "use TLS on this port"),
                .closed,
            ])
        try await listener.close()
    }

    @Test func `versions without overlap are refused at both ends`() async throws {
        let mesh = try TestMesh()
        let listener = try await TestListener(TLSServer(mesh.serverSettings))
        let openssl = try ChildProcess(
            "/usr/bin/openssl", ["s_client", "-connect", listener.address.printed, "-tls1_2", "-brief"])
        let server = try await listener.next()
        let exit = try await openssl.exit()
        #expect(exit.code != 0)
        guard case .insecure(let message) = await server.all().first else {
            Issue.record("the server accepted TLS 1.2")
            return
        }
        #expect(
            message.hasSuffix(
                "and this node have no TLS version in common (here at least 1.3); update the older one, or lower the "
                    + "minimum version"))
        try await listener.close()
    }

    @Test func `TLS 1-2 is accepted where the settings allow it`() async throws {
        let mesh = try TestMesh()
        var settings = mesh.serverSettings
        settings.minimumVersion = .tls12
        let listener = try await TestListener(TLSServer(settings))
        let exit = try await ChildProcess(
            "/usr/bin/openssl",
            [
                "s_client", "-connect", listener.address.printed, "-tls1_2", "-brief", "-CAfile", mesh.ca, "-cert",
                mesh.client.certificate, "-key", mesh.client.key, "-verify_return_error", "-verify_hostname",
                "router-1.mesh",
            ]
        ).exit()
        #expect(exit.code == 0)
        #expect(exit.errors.contains("Protocol version: TLSv1.2"), "\(exit.errors)")
        try await listener.close()
    }
}
