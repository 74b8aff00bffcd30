import AstraNetTLS
import Crypto
import Foundation
import TestSupport
import Testing
import X509

/// Errors and summaries of files.
@Suite(.timeLimit(.minutes(2))) struct LoadingTests {
    private let mesh: TestMesh

    init() throws { mesh = try TestMesh() }

    /// Loads a server and returns its error without the folder.
    private func error(
        certificate: String? = nil, key: String? = nil, clientCA: String? = nil
    ) -> String {
        do {
            _ = try TLSServer.load(
                TLSServerSettings(
                    certificate: certificate ?? mesh.server.certificate, key: key ?? mesh.server.key,
                    clientCA: clientCA ?? mesh.ca))
            return "loaded"
        } catch {
            return error.description.replacing(mesh.folder.path + "/", with: "")
        }
    }

    @Test func `files that belong together load with their summaries`() throws {
        let loaded = try TLSServer.load(mesh.serverSettings)
        let summary = loaded.certificate
        #expect(summary.file == mesh.server.certificate && summary.line == 1)
        #expect(summary.uris == [TestMesh.serverURI])
        #expect(summary.dnsNames == ["router-1.mesh"])
        #expect(summary.addresses == ["127.0.0.1"])
        #expect(summary.issuer == "CN=test CA" && summary.subject == "CN=leaf")
        #expect(summary.serialNumber.wholeMatch(of: /[0-9a-f]+/) != nil)
        #expect(summary.keyFingerprint.wholeMatch(of: /[0-9a-f]{64}/) != nil)
        #expect(loaded.clientAuthorities.map(\.subject) == ["CN=test CA"])
    }

    @Test func `the fingerprint is that of openssl`() async throws {
        let der = mesh.folder.file("key.der")
        let convert = try await ChildProcess(
            "/usr/bin/openssl", ["pkey", "-in", mesh.server.key, "-pubout", "-outform", "DER", "-out", der]
        ).exit()
        try #require(convert.code == 0, "\(convert.errors)")
        let digest = SHA256.hash(data: try Data(contentsOf: URL(fileURLWithPath: der)))
        let expected = digest.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        #expect(try TLSServer.load(mesh.serverSettings).certificate.keyFingerprint == expected)
    }

    @Test(arguments: [
        ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
        ["ecparam", "-name", "prime256v1", "-genkey"],
        ["genrsa", "-traditional"],
        ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    ])
    func `keys of openssl load in all formats`(generate: [String]) async throws {
        let (key, certificate) = (mesh.folder.file("o.key"), mesh.folder.file("o.pem"))
        let made = try await ChildProcess("/usr/bin/openssl", generate + ["-out", key]).exit()
        try #require(made.code == 0, "\(made.errors)")
        chmod(key, 0o600)
        let signed = try await ChildProcess(
            "/usr/bin/openssl",
            [
                "req", "-x509", "-key", key, "-out", certificate, "-subj", "/CN=x", "-addext",
                "subjectAltName=DNS:Router-1.Mesh",
            ]
        ).exit()
        try #require(signed.code == 0, "\(signed.errors)")
        let loaded = try TLSServer.load(TLSServerSettings(certificate: certificate, key: key, clientCA: certificate))
        #expect(loaded.certificate.dnsNames == ["router-1.mesh"])
    }

    @Test func `a missing file is named`() {
        #expect(
            error(certificate: mesh.folder.file("none.pem"))
                == "none.pem: cannot be read: No such file or directory; check the path")
        #expect(error(key: mesh.folder.path).hasSuffix(": is not a regular file"))
    }

    @Test func `a file without the right block is described`() throws {
        #expect(
            error(certificate: mesh.server.key)
                == "server.key: has no certificate, only 'PRIVATE KEY'; give the file with the certificate")
        let empty = try mesh.folder.write("\n", to: "empty.pem", mode: 0o600)
        #expect(
            error(certificate: empty).hasPrefix("empty.pem: has no certificate in PEM format; convert it"))
        #expect(error(key: empty).hasPrefix("empty.pem: has no private key in PEM format"))
        #expect(error(clientCA: empty).hasPrefix("empty.pem: has no CA certificate in PEM format"))
    }

    @Test func `a damaged block is reported with its line`() throws {
        let good = try String(contentsOfFile: mesh.server.certificate, encoding: .utf8)
        let lines = good.split(separator: "\n")
        func load(_ text: String) throws -> String {
            error(certificate: try mesh.folder.write(text, to: "bad.pem"))
        }
        let again = "; copy the file again from its source"
        var bad = lines
        bad[2] = "!" + bad[2].dropFirst()
        #expect(
            try load("# text\n" + bad.joined(separator: "\n"))
                == "bad.pem:4: the block 'CERTIFICATE' is not valid base64" + again)
        bad = lines
        bad[1] = bad[1].dropFirst()
        #expect(
            try load(bad.joined(separator: "\n"))
                == "bad.pem:1: the block 'CERTIFICATE' is not valid base64" + again)
        #expect(
            try load(good + lines.dropLast().joined(separator: "\n")).hasPrefix(
                "bad.pem:\(lines.count + 1): '-----BEGIN CERTIFICATE-----' has no end"))
        #expect(
            try load("-----END CERTIFICATE-----\n") == "bad.pem:1: '-----END CERTIFICATE-----' does not end a block"
                + again)
        #expect(
            try load("\n\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
                == "bad.pem:3: the certificate is not a valid X.509 certificate; copy it again from its source")
    }

    @Test func `line ends of Windows and spaces at line ends are accepted`() throws {
        let good = try String(contentsOfFile: mesh.server.certificate, encoding: .utf8)
        let file = try mesh.folder.write(good.replacing("\n", with: " \r\n"), to: "windows.pem")
        #expect(error(certificate: file) == "loaded")
    }

    @Test(arguments: [["-traditional"], []]) func `an encrypted key is refused with the remedy`(
        options: [String]
    ) async throws {
        let key = mesh.folder.file("secret.key")
        let made = try await ChildProcess(
            "/usr/bin/openssl",
            ["pkey", "-in", mesh.server.key, "-aes128", "-passout", "pass:secret", "-out", key] + options
        ).exit()
        try #require(made.code == 0, "\(made.errors)")
        chmod(key, 0o600)
        #expect(
            error(key: key)
                == "secret.key:1: the private key is encrypted; decrypt it with: (umask 077 && openssl pkey -in "
                + "'secret.key' -out decrypted.key)")
    }

    @Test(arguments: [mode_t(0o640), 0o604, 0o620, 0o601])
    func `a key that other users may use is refused`(mode: mode_t) {
        chmod(mesh.server.key, mode)
        #expect(
            error()
                == "server.key: the key can be used by other users (mode \(String(mode, radix: 8))); fix this with: "
                + "chmod 600 'server.key'")
    }

    @Test func `a key of another certificate is refused with both files`() {
        #expect(
            error(key: mesh.client.key)
                == "client.key:1: the key does not belong to the certificate in server.pem; give the key that the "
                + "certificate was made for; the certificate must be the first of its file")
    }

    @Test func `a damaged key and a second key are refused with the line`() throws {
        let good = try String(contentsOfFile: mesh.server.key, encoding: .utf8)
        let two = try mesh.folder.write(good + good, to: "two.key", mode: 0o600)
        let line = good.split(separator: "\n").count + 1
        #expect(error(key: two) == "two.key:\(line): the file has a second private key; leave one key in the file")
        let bad = try mesh.folder.write(
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", to: "bad.key", mode: 0o600)
        #expect(error(key: bad).hasPrefix("bad.key:1: the private key is damaged or of an unsupported type"))
    }

    @Test func `a certificate that is not one of a CA is refused as CA`() throws {
        #expect(
            error(clientCA: mesh.client.certificate)
                == "client.pem:1: the certificate (of 'CN=leaf') is not one of a CA; give the certificate of "
                + "'CN=test CA', which signed it")
    }

    @Test func `the certificate of a CA is refused for a listener`() throws {
        let authority = try TestAuthority("signing CA")
        let identity = TestIdentity(certificate: authority.certificate, key: .init(authority.key))
        let files = try identity.write("signing", in: mesh.folder)
        #expect(
            error(certificate: files.certificate, key: files.key)
                == "signing.pem:1: the certificate (of 'CN=signing CA') is not for TLS: its key usage has no "
                + "digitalSignature; give the certificate of the host or client, not that of its CA")
    }

    @Test func `a file that is too large is refused before it is read`() throws {
        let file = try mesh.folder.write("", to: "large.pem")
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: file))
        try handle.truncate(atOffset: 1 << 40)
        try handle.close()
        #expect(error(clientCA: file) == "large.pem: is larger than 1 MiB; check that it is the right file")
    }

    @Test func `more than a thousand CAs are refused`() throws {
        let text = try String(contentsOfFile: mesh.ca, encoding: .utf8)
        let file = try mesh.folder.write(String(repeating: text, count: 1_001), to: "many.pem")
        let line = text.split(separator: "\n").count * 1_000 + 1
        #expect(
            error(clientCA: file)
                == "many.pem:\(line): the file has more than 1000 certificates; remove those that are not needed")
    }

    @Test func `a client needs certificate and key together, and a valid server name`() {
        func error(_ settings: TLSClientSettings) -> String? {
            do {
                _ = try TLSClient.load(settings)
                return nil
            } catch {
                return error.description.replacing(mesh.folder.path + "/", with: "")
            }
        }
        var settings = mesh.clientSettings
        settings.key = nil
        #expect(error(settings) == "client.pem: the certificate has no key; give its key too")
        settings = mesh.clientSettings
        settings.certificate = nil
        #expect(error(settings) == "client.key: the key has no certificate; give its certificate too")
        settings = mesh.clientSettings
        settings.serverName = "router-1:5555"
        #expect(
            error(settings)
                == "the server name 'router-1:5555' is neither a DNS name nor an IP address; give it without a port")
        #expect(error(mesh.clientSettings) == nil)
        #expect(
            error(TLSClientSettings())
                == "every certificate of the system's CAs would be accepted, whatever its name; give the server name, or "
                + "the file of the CAs of this mesh")
        #expect(error(TLSClientSettings(serverName: "router-1.mesh")) == nil)
    }

    @Test func `a certificate warns thirty days before its end, after it and before its beginning`() throws {
        let summary = try #require(CertificateSummary.summaries(file: mesh.server.certificate).first)
        let (end, day) = (summary.notAfter, Int64(86_400))
        #expect(summary.warning(at: end - 31 * day) == nil)
        #expect(
            summary.warning(at: end - 29 * day)
                == "the certificate (serial \(summary.serialNumber)) expires in 29 days, on \(summary.expiry); renew it"
        )
        #expect(
            summary.warning(at: end + 1)
                == "the certificate (serial \(summary.serialNumber)) expired on \(summary.expiry); renew it")
        #expect(summary.warning(at: summary.notBefore - 1)?.contains("is valid only from") == true)
    }
}
