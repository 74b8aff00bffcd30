import AstraNetTLS
import TestSupport

/// A CA with the certificates of a server and a client in a folder.
struct TestMesh {
    let folder: TestFolder
    let authority: TestAuthority
    let ca: String
    let server: (certificate: String, key: String)
    let client: (certificate: String, key: String)

    static let serverURI = "spiffe://mesh/host/router-1"
    static let clientURI = "spiffe://mesh/client/shop"

    init(authority: TestAuthority? = nil, server: TestLeaf? = nil, client: TestLeaf? = nil) throws {
        folder = try TestFolder()
        self.authority = try authority ?? TestAuthority()
        ca = try self.authority.write("ca", in: folder)
        self.server = try self.authority.issue(
            server ?? TestLeaf(uris: [Self.serverURI], dnsNames: ["router-1.mesh"], addresses: [[127, 0, 0, 1]])
        ).write("server", in: folder)
        self.client = try self.authority.issue(client ?? TestLeaf(uris: [Self.clientURI])).write("client", in: folder)
    }

    /// Settings of a listener that requires client certificates.
    var serverSettings: TLSServerSettings {
        TLSServerSettings(certificate: server.certificate, key: server.key, clientCA: ca)
    }

    /// Settings of a client with a certificate.
    var clientSettings: TLSClientSettings {
        TLSClientSettings(
            ca: ca, certificate: client.certificate, key: client.key, serverName: "router-1.mesh")
    }
}
