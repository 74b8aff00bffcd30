import AstraNetTLS
import Foundation
import TestSupport
import Testing

/// Tests `chanserv certificates`.
@Suite(.timeLimit(.minutes(2))) struct CertificatesCommandTests {
    private static func openssl(_ arguments: String...) async throws -> ChildProcess.Exit {
        try await ChildProcess("/usr/bin/openssl", arguments).exit()
    }

    private static func mode(_ path: String) throws -> Int? {
        try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    }

    private static func contents(_ folder: String) throws -> [String: Data] {
        try FileManager.default.contentsOfDirectory(atPath: folder).reduce(into: [:]) {
            $0[$1] = try Data(contentsOf: URL(fileURLWithPath: "\(folder)/\($1)"))
        }
    }

    @Test func `openssl and TLS accept the certificates of a new CA for their purposes`() async throws {
        let folder = try TestFolder()
        let certs = folder.file("certs")
        let exit = try await ChanservCommand.run(
            "certificates", "new", "certs", "--host", "router-1.mesh", "--address", "127.0.0.1", "--address",
            "localhost", "--client", "shop", folder: folder.path)
        #expect(exit.code == 0 && exit.errors == "", "\(exit.errors)")
        #expect(exit.text.contains("spiffe://mesh/host/router-1.mesh, until "))
        #expect(exit.text.contains("tls: {certificate: router-1.mesh.pem, key: router-1.mesh.key, client_ca: ca.pem}"))
        #expect(
            try Self.contents(certs).keys.sorted() == [
                "ca.key", "ca.pem", "router-1.mesh.key", "router-1.mesh.pem", "shop.key", "shop.pem",
            ])
        for name in ["ca", "router-1.mesh", "shop"] { #expect(try Self.mode("\(certs)/\(name).key") == 0o600) }
        for name in ["router-1.mesh", "shop"] {
            let (pem, key) = ("\(certs)/\(name).pem", "\(certs)/\(name).key")
            #expect(throws: Never.self) {
                try TLSClient(ca: "\(certs)/ca.pem", certificate: pem, key: key, serverName: "router-1.mesh")
            }
            let listener = TLSServerSettings(certificate: pem, key: key, clientCA: "\(certs)/ca.pem")
            if name == "shop" {
                #expect(throws: TLSFileError.self) { try TLSServer.load(listener) }
            } else {
                #expect(throws: Never.self) { try TLSServer.load(listener) }
            }
        }
        let ca = "\(certs)/ca.pem"
        for name in ["router-1.mesh", "localhost"] {
            let host = try await Self.openssl(
                "verify", "-x509_strict", "-CAfile", ca, "-purpose", "sslserver", "-verify_hostname", name,
                "\(certs)/router-1.mesh.pem")
            #expect(host.code == 0, "\(host.errors)")
        }
        let address = try await Self.openssl(
            "verify", "-x509_strict", "-CAfile", ca, "-purpose", "sslclient", "-verify_ip", "127.0.0.1",
            "\(certs)/router-1.mesh.pem")
        #expect(address.code == 0, "\(address.errors)")
        let client = try await Self.openssl(
            "verify", "-x509_strict", "-CAfile", ca, "-purpose", "sslclient", "\(certs)/shop.pem")
        #expect(client.code == 0, "\(client.errors)")
        let wrong = try await Self.openssl("verify", "-CAfile", ca, "-purpose", "sslserver", "\(certs)/shop.pem")
        #expect(wrong.code != 0)
        let text = try await Self.openssl("x509", "-in", ca, "-noout", "-text").text
        #expect(text.contains("CA:TRUE, pathlen:0"))
        #expect(text.contains("Certificate Sign, CRL Sign"))
    }

    @Test func `a later run adds certificates of the same CA and leaves all files as they are`() async throws {
        let folder = try TestFolder()
        #expect(try await ChanservCommand.run("certificates", "new", folder.path, "--host", "a").code == 0)
        let before = try Self.contents(folder.path)
        let exit = try await ChanservCommand.run(
            "certificates", "new", folder.path, "--host", "b", "--uri-prefix", "spiffe://shop.example/prod", "--days",
            "2")
        #expect(exit.code == 0, "\(exit.errors)")
        #expect(!exit.text.contains("ca.key"))
        let after = try Self.contents(folder.path)
        #expect(after.filter { before[$0.key] != nil } == before)
        #expect(Set(after.keys).subtracting(before.keys) == ["b.pem", "b.key"])
        let verified = try await Self.openssl(
            "verify", "-x509_strict", "-CAfile", folder.file("ca.pem"), folder.file("a.pem"), folder.file("b.pem"))
        #expect(verified.code == 0, "\(verified.errors)")
        let summaries = try CertificateSummary.summaries(file: folder.file("b.pem"))
        #expect(summaries.map(\.uris) == [["spiffe://shop.example/prod/host/b"]])
        #expect(summaries.map { $0.notAfter - $0.notBefore } == [2 * 86_400 + 3_600])
    }

    @Test func `an existing certificate or CA is never replaced`() async throws {
        let folder = try TestFolder()
        #expect(try await ChanservCommand.run("certificates", "new", folder.path, "--client", "a").code == 0)
        let before = try Self.contents(folder.path)
        let again = try await ChanservCommand.run(
            "certificates", "new", folder.path, "--host", "b", "--client", "a")
        #expect(again.code == 64)
        #expect(
            again.errors.hasPrefix(
                "chanserv: \(folder.path)/a.pem exists already: to renew the certificate of a, first move its .pem and "
                    + ".key away"))
        let nothing = try await ChanservCommand.run("certificates", "new", folder.path)
        #expect(nothing.code == 64)
        #expect(nothing.errors.contains("has a CA already: add certificates with --host or --client"))
        #expect(try Self.contents(folder.path) == before)
    }

    @Test func `a CA that cannot be used is explained`() async throws {
        let folder = try TestFolder()
        #expect(try await ChanservCommand.run("certificates", "new", folder.path).code == 0)
        chmod(folder.file("ca.key"), 0o644)
        let open = try await ChanservCommand.run("certificates", "new", folder.path, "--host", "a")
        #expect(open.code == 65)
        #expect(open.errors.contains("fix this with: chmod 600 '\(folder.file("ca.key"))'"))
        try FileManager.default.removeItem(atPath: folder.file("ca.key"))
        let missing = try await ChanservCommand.run("certificates", "new", folder.path, "--host", "a")
        #expect(missing.code == 65)
        #expect(missing.errors.contains("ca.key: cannot be read: No such file or directory"))
        #expect(try Self.contents(folder.path).keys.sorted() == ["ca.pem"])
    }

    @Test(arguments: ["../a", "a/b", "A", "ca", ".", "a..b", "*.mesh", "-a", "a b"])
    func `a name that is no DNS name is refused`(name: String) async throws {
        let folder = try TestFolder()
        let exit = try await ChanservCommand.run("certificates", "new", folder.file("certs"), "--host=\(name)")
        #expect(exit.code == 64)
        #expect(exit.errors.hasPrefix("chanserv: --host: "), "\(exit.errors)")
        #expect(try Self.contents(folder.path) == [:])
    }

    @Test(
        arguments: [
            (["--host", "a", "--client", "a"], "the name 'a' is given twice: each certificate needs its own"),
            (["--address", "127.0.0.1"], "--address needs --host"),
            (["--host", "a", "--days", "0"], "--days must be 1 to 3650"),
            (
                ["--host", "a", "--address", "127.0.0.1:5555"],
                "--address: '127.0.0.1:5555' is neither an IP address nor a DNS name; give it without a port"
            ),
            (
                ["--host", "a", "--uri-prefix", "mesh"],
                "--uri-prefix: 'mesh' is not the beginning of a URI, such as spiffe://mesh, without '/' at its end"
            ),
        ] as [([String], String)])
    func `wrong options are explained`(options: [String], message: String) async throws {
        let folder = try TestFolder()
        let exit = try await ChanservCommand.run(["certificates", "new", folder.file("certs")] + options)
        #expect(exit.code == 64)
        #expect(exit.errors.hasPrefix("chanserv: \(message)\n"), "\(exit.errors)")
    }

    @Test func `a folder that cannot be written is reported`() async throws {
        let folder = try TestFolder()
        try Data().write(to: URL(fileURLWithPath: folder.file("file")))
        let exit = try await ChanservCommand.run("certificates", "new", folder.file("file/certs"))
        #expect(exit.code == 69)
        #expect(exit.errors == "chanserv: cannot create the folder \(folder.path)/file/certs: Not a directory\n")
    }

    @Test func `show prints names, serial number, end and key, and warns about the end`() async throws {
        let folder = try TestFolder()
        #expect(
            try await ChanservCommand.run(
                "certificates", "new", folder.path, "--host", "a", "--address", "::1", "--days", "20"
            ).code == 0)
        let file = folder.file("a.pem")
        let summary = try #require(CertificateSummary.summaries(file: file).first)
        let exit = try await ChanservCommand.run("certificates", "show", file, folder.file("ca.pem"))
        #expect(exit.code == 0)
        #expect(
            exit.lines.prefix(6).map(String.init) == [
                "\(file):1", "  names   spiffe://mesh/host/a, a, ::1", "  issuer  \(summary.issuer)",
                "  serial  \(summary.serialNumber)", "  valid   \(summary.beginning) to \(summary.expiry)",
                "  key     sha256:\(summary.keyFingerprint)",
            ])
        #expect(exit.lines.count == 12)
        #expect(
            exit.errors.hasPrefix("warning: \(file):1: the certificate (serial \(summary.serialNumber)) expires in "))
        #expect(exit.errors.hasSuffix(" days, on \(summary.expiry); renew it\n"))
        let serial = try await Self.openssl("x509", "-in", file, "-noout", "-serial").text
        #expect(serial.lowercased() == "serial=\(summary.serialNumber)\n")
    }

    @Test func `show reports files without a certificate and shows the others`() async throws {
        let folder = try TestFolder()
        #expect(try await ChanservCommand.run("certificates", "new", folder.path).code == 0)
        let exit = try await ChanservCommand.run(
            "certificates", "show", folder.file("ca.key"), folder.file("none"), folder.file("ca.pem"))
        #expect(exit.code == 65)
        #expect(exit.errors.contains("ca.key: has no certificate, only 'PRIVATE KEY'"))
        #expect(exit.errors.contains("none: cannot be read: No such file or directory"))
        #expect(exit.text.contains("names   none"))
    }
}
