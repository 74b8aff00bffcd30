import AstraNet
import AstraNetTLS
import Chanserv
import ChanservAstraNet
import Foundation
import NIOCore
import TestSupport
import Testing

/// Go programs, which have no TLS, behind stunnel.
@Suite(.timeLimit(.minutes(5))) struct StunnelTests {
    @Test func `a Go client reaches a listener with TLS through stunnel, and one on loopback without`() async throws {
        let folder = try TestFolder()
        let (certificate, key) = try await Self.makeCertificate(in: folder)
        let node = Node.withoutTimeouts()
        node.access = AccessRules(
            identities: [.init(name: "shop", matchers: [.init(uri: "spiffe://mesh/client/shop")])])
        let secured = try await node.listen(
            at: .tcp(host: "127.0.0.1", port: 0),
            security: try TLSServer(TLSServerSettings(certificate: certificate, key: key, clientCA: certificate)))
        let plain = try await node.listen(host: "127.0.0.1", port: 0)
        let callers = EventQueue<String>()
        let server = Server(multiplexer: AstraNetMultiplexer(node), configuration: .withoutTimeouts)
        let service = try server.serve("who") { request in
            callers.append(request.context.identity)
            return SourceList([Source(header: request.body, frames: [ByteBuffer(string: "frame")])])
        }

        let tunnel = try await Self.startTunnel(to: secured, certificate, key, in: folder)
        defer { tunnel.process.end() }
        for (address, identity) in [(tunnel.address, "spiffe://mesh/client/shop"), (plain, "")] {
            let go = try await GoLikePeer.join(address)
            for body in ["small", String(repeating: "large ", count: 50_000)] {
                let sources = try await go.post("who", Array(body.utf8))
                #expect(sources == [PlainSource(header: Array(body.utf8), frames: [Array("frame".utf8)])])
                #expect(await callers.next() == identity)
            }
            #expect(go.broken == [])
            await go.close()
        }
        service.stopAccepting()
        await node.shutdown()
    }

    /// Makes a certificate that is its own CA, for both ends.
    private static func makeCertificate(in folder: TestFolder) async throws -> (certificate: String, key: String) {
        let paths = (certificate: folder.file("both.pem"), key: folder.file("both.key"))
        let made = try await ChildProcess(
            "/usr/bin/openssl",
            [
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                "/CN=both", "-addext", "subjectAltName=DNS:localhost,URI:spiffe://mesh/client/shop", "-keyout",
                paths.key, "-out", paths.certificate,
            ]
        ).exit()
        try #require(made.code == 0, "\(made.errors)")
        return paths
    }

    /// Starts stunnel as in `docs/security.md`: it takes plain connections on this machine and makes them TLS
    /// connections.
    private static func startTunnel(
        to address: SocketAddress, _ certificate: String, _ key: String, in folder: TestFolder
    ) async throws -> (process: ChildProcess, address: SocketAddress) {
        // stunnel cannot choose a free port and tell it.
        let port = try await freePort()
        let configuration = folder.file("stunnel.conf")
        try """
        foreground = yes
        pid =
        [mesh]
        client = yes
        accept = 127.0.0.1:\(port)
        connect = 127.0.0.1:\(address.port!)
        CAfile = \(certificate)
        cert = \(certificate)
        key = \(key)
        verifyChain = yes
        checkHost = localhost
        sslVersionMin = TLSv1.3
        """.write(toFile: configuration, atomically: true, encoding: .utf8)
        let process = try ChildProcess("/usr/bin/stunnel", [configuration])
        _ = try await process.errorLine(with: "Configuration successful")
        return (process, try SocketAddress(ipAddress: "127.0.0.1", port: port))
    }

    /// A port that nothing used a moment ago.
    private static func freePort() async throws -> Int {
        let listener = try await RawPeer.listen()
        defer { listener.server.close(promise: nil) }
        return listener.server.localAddress!.port!
    }
}
