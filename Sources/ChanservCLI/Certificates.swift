import ArgumentParser

/// `chanserv certificates`: a small CA for the TLS of a mesh.
struct Certificates: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Creates and shows the certificates of hosts and clients.",
        subcommands: [CertificatesNew.self, CertificatesShow.self])
}
