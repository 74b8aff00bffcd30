import ArgumentParser
import AstraNetTLS

/// `chanserv certificates new`: creates a CA and certificates that it signs.
struct CertificatesNew: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "new",
        abstract: "Creates a CA, and certificates of hosts and clients.",
        usage: "chanserv certificates new <folder> [<options>]",
        discussion: """
            The first run creates the folder with a CA. Later runs add certificates that this CA signs. No file is \
            ever replaced. Keys are ECDSA P-256; only their owner can read them.

            FILES
              ca.pem            the certificate of the CA, for all
                                hosts and clients
              ca.key            the key of the CA. It can sign a
                                certificate for any name: keep it
                                away from the hosts
              NAME.pem, NAME.key
                                certificate and key of a host or a
                                client

            NAMES IN THE CERTIFICATES
              host    the DNS name NAME, the names of --address and
                      the URI PREFIX/host/NAME; for server and
                      client
              client  the URI PREFIX/client/NAME; for client only

            Exit codes: 0 created; 64 a name is invalid or has a certificate already; 65 the CA in the folder cannot \
            be used; 69 the folder cannot be written.

            EXAMPLES
              chanserv certificates new certs \\
                --host router-1.mesh --host shop-1.mesh \\
                --client admin
              chanserv certificates new certs \\
                --host local --address 127.0.0.1 \\
                --address localhost
              chanserv certificates show certs/*.pem
            """)

    /// Validity of a CA in days: 10 years.
    static let authorityDays = 3_650

    @Argument(
        help: ArgumentHelp("The folder of the CA. Created if it does not exist.", valueName: "folder"),
        transform: utf8Text)
    var folder: String

    @Option(
        help: ArgumentHelp(
            "A host that gets a certificate: a DNS name in lower case. Repeat it for more hosts.", valueName: "name"),
        transform: { try CertificateName($0) })
    var host: [CertificateName] = []

    @Option(
        help: ArgumentHelp(
            "A client that gets a certificate: like the name of a host. Repeat it for more clients.",
            valueName: "name"),
        transform: { try CertificateName($0) })
    var client: [CertificateName] = []

    @Option(
        help: ArgumentHelp(
            "A further IP address or DNS name in the certificates of all hosts of this run. Repeat it for more.",
            valueName: "ip or name"),
        transform: { try HostAlias($0) })
    var address: [HostAlias] = []

    @Option(help: ArgumentHelp("The validity of the certificates in days, 1 to 3650.", valueName: "n"))
    var days = 825

    @Option(
        help: ArgumentHelp("The beginning of the URIs in the certificates.", valueName: "uri"),
        transform: { try IdentityPrefix($0) })
    var uriPrefix = IdentityPrefix.standard

    func validate() throws {
        guard (1...Self.authorityDays).contains(days) else {
            throw ValidationError("--days must be 1 to \(Self.authorityDays)")
        }
        guard address.isEmpty || !host.isEmpty else { throw ValidationError("--address needs --host") }
        var names: Set<CertificateName> = []
        for name in host + client where !names.insert(name).inserted {
            throw ValidationError("the name '\(name.text)' is given twice: each certificate needs its own")
        }
    }

    func run() async throws {
        let leaves =
            host.map { LeafCertificate.host($0, aliases: address, prefix: uriPrefix) }
            + client.map { LeafCertificate.client($0, prefix: uriPrefix) }
        let result: CertificateFolder.Result
        do {
            result = try CertificateFolder(path: folder).add(leaves, days: days)
        } catch {
            StandardError.report("\(error)")
            throw ExitCode(error.code.exitCode)
        }
        try StandardOutput.write(Self.text(result, hosts: host, folder: folder))
    }

    private static func text(_ result: CertificateFolder.Result, hosts: [CertificateName], folder: String) -> String {
        var rows: [(String, String)] = []
        if result.isNewAuthority {
            rows.append(("ca.pem", "the CA: copy it to all hosts and clients"))
            rows.append(("ca.key", "the key of the CA: keep it secret, away from the hosts"))
        }
        for summary in result.certificates {
            let name = summary.names.first ?? summary.subject
            rows.append(("\(summary.fileName).pem, .key", "\(name), until \(summary.expiry)"))
        }
        let width = rows.map { $0.0.count }.max() ?? 0
        var text = "Created in \(folder.visible):\n\n"
        for (file, what) in rows {
            text += "  \(file)\(String(repeating: " ", count: width - file.count))  \(what)\n"
        }
        guard let host = hosts.first else { return text }
        return text + """

            A listener of \(host.text) that requires client certificates:

              tls: {certificate: \(host.text).pem, key: \(host.text).key, client_ca: ca.pem}

            """
    }
}

extension CertificateSummary {
    /// All names, the URIs first.
    var names: [String] { uris + dnsNames + addresses }

    /// The name of the file without its folder and extension.
    fileprivate var fileName: String {
        let name = file.split(separator: "/").last.map(String.init) ?? file
        return name.hasSuffix(".pem") ? String(name.dropLast(4)) : name
    }
}
