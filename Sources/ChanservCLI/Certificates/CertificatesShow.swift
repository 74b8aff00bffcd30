import ArgumentParser
import AstraNetTLS
import Glibc

/// `chanserv certificates show`: prints what certificates are for.
struct CertificatesShow: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Prints names, serial number, end and key fingerprint of certificates.",
        usage: "chanserv certificates show <file> ...",
        discussion: """
            The line 'key' is the identity of the key in the access rules of a configuration.

            The command warns on standard error about certificates that are not valid, or not for 30 more days.

            Exit codes: 0 success; 65 a file has no readable certificate.

            EXAMPLES
              chanserv certificates show certs/*.pem
            """)

    @Argument(help: ArgumentHelp("A PEM file of certificates.", valueName: "file"), transform: utf8Text)
    var files: [String]

    func run() async throws {
        var hasFailed = false
        for file in files {
            do {
                for summary in try CertificateSummary.summaries(file: file) {
                    try StandardOutput.write(Self.text(summary))
                    if let warning = summary.warning(at: Int64(time(nil))) {
                        StandardError.write("warning: \(file):\(summary.line): \(warning)")
                    }
                }
            } catch let error as TLSFileError {
                StandardError.report("\(error)")
                hasFailed = true
            }
        }
        if hasFailed { throw ExitCode(65) }
    }

    private static func text(_ summary: CertificateSummary) -> String {
        let names = summary.names.isEmpty ? "none" : summary.names.joined(separator: ", ")
        return """
            \(summary.file.visible):\(summary.line)
              names   \(names.visible)
              issuer  \(summary.issuer.visible)
              serial  \(summary.serialNumber)
              valid   \(summary.beginning) to \(summary.expiry)
              key     sha256:\(summary.keyFingerprint)

            """
    }
}
