import AstraNet
import AstraNetTLS
import Foundation
import TestSupport
import Testing

/// Replacement of certificates while connections are open.
@Suite(.timeLimit(.minutes(2))) struct ReplacementTests {
    private static func fingerprint(_ events: [EndEvent]) -> String? {
        for case .credentials(let credentials) in events { return credentials.keyFingerprint }
        return nil
    }

    @Test func `open connections keep their certificate, new ones use the new one`() async throws {
        let (mesh, renewed) = (try TestMesh(), try TestMesh(authority: TestAuthority("new CA")))
        let security = try TLSServer(mesh.serverSettings)
        let listener = try await TestListener(security)
        let client = try TLSClient(mesh.clientSettings)
        let (old, oldServer) = try await listener.connect(client)
        let before = Self.fingerprint(try await old.until(text: "hello from the server"))
        #expect(before == security.loaded.certificate.keyFingerprint)
        _ = try await oldServer.until(text: "hello from the client")

        // Certificate, key and CA of both sides.
        security.use(try TLSServer.load(renewed.serverSettings))
        client.use(try TLSClient.load(renewed.clientSettings))
        let (new, newServer) = try await listener.connect(client)
        let after = Self.fingerprint(try await new.until(text: "hello from the server"))
        #expect(after == security.loaded.certificate.keyFingerprint)
        #expect(after != before)
        _ = try await newServer.until(text: "hello from the client")

        old.send("still there")
        #expect(try await oldServer.until(text: "still there") == [.bytes("still there")])
        // A client of the old CA is refused now.
        let (refused, refusedServer) = try await listener.connect(TLSClient(mesh.clientSettings))
        guard case .insecure = await refused.all().first, case .insecure = await refusedServer.all().first else {
            Issue.record("the old CA is still accepted")
            return
        }
        old.close()
        new.close()
        try await listener.close()
    }

    @Test func `loaded files are equal until one of them changes`() throws {
        let mesh = try TestMesh()
        let (server, client) = (try TLSServer.load(mesh.serverSettings), try TLSClient.load(mesh.clientSettings))
        #expect(try TLSServer.load(mesh.serverSettings) == server)
        #expect(try TLSClient.load(mesh.clientSettings) == client)
        // An intermediate certificate more, which no summary shows.
        let other = try TestAuthority("intermediate CA")
        let pem = try String(contentsOfFile: mesh.server.certificate, encoding: .utf8)
        _ = try mesh.folder.write(pem + other.certificate.serializeAsPEM().pemString + "\n", to: "server.pem")
        #expect(try TLSServer.load(mesh.serverSettings) != server)
        _ = try other.write("ca", in: mesh.folder)
        #expect(try TLSClient.load(mesh.clientSettings) != client)
    }

    @Test func `settings that do not load leave the security as it is`() async throws {
        let mesh = try TestMesh()
        let security = try TLSServer(mesh.serverSettings)
        let serial = security.loaded.certificate.serialNumber
        var wrong = mesh.serverSettings
        wrong.key = mesh.client.key
        #expect(throws: TLSFileError.self) { security.use(try TLSServer.load(wrong)) }
        #expect(security.loaded.certificate.serialNumber == serial)
        #expect(security.loaded.settings == mesh.serverSettings)
    }
}
