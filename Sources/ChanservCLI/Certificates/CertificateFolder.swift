import AstraNetTLS
import FoundationEssentials
import Glibc
import SwiftASN1
import X509

/// The folder of `chanserv certificates new`: a CA and the certificates that it has signed.
struct CertificateFolder {
    struct Problem: Error, CustomStringConvertible {
        enum Code {
            /// A certificate exists already, or there is nothing to create.
            case arguments
            /// The CA cannot be used.
            case authority
            /// The folder or a file cannot be written.
            case system

            var exitCode: Int32 {
                switch self {
                case .arguments: 64
                case .authority: 65
                case .system: 69
                }
            }
        }

        var code: Code
        var description: String
    }

    /// What was created.
    struct Result {
        var isNewAuthority: Bool
        var certificates: [CertificateSummary]
    }

    let path: String

    private var authorityCertificate: String { file("ca", "pem") }
    private var authorityKey: String { file("ca", "key") }

    private func file(_ name: String, _ type: String) -> String { "\(path)/\(name).\(type)" }

    /// Creates the CA if the folder has none, and certificates.
    ///
    /// - Parameters:
    ///   - leaves: the certificates.
    ///   - days: their validity.
    func add(_ leaves: [LeafCertificate], days: Int) throws(Problem) -> Result {
        guard mkdir(path, 0o700) == 0 || errno == EEXIST else {
            throw Self.systemProblem("cannot create the folder \(path)")
        }
        for leaf in leaves {
            for type in ["pem", "key"] where exists(file(leaf.name.text, type)) { throw existing(leaf, type) }
        }
        let issuer = CertificateIssuer(now: Date())
        let isNew = !exists(authorityCertificate) && !exists(authorityKey)
        let authority: SigningAuthority
        if isNew {
            do {
                authority = try issuer.authority(days: CertificatesNew.authorityDays)
            } catch {
                throw Problem(code: .system, description: "cannot create a CA: \(error)")
            }
            try write(authority.certificate, authority.key, "ca")
        } else {
            guard !leaves.isEmpty else {
                throw Problem(
                    code: .arguments, description: "\(path) has a CA already: add certificates with --host or --client")
            }
            authority = try readAuthority(now: issuer.now)
        }
        var summaries: [CertificateSummary] = []
        for leaf in leaves {
            let name = leaf.name.text
            let certificate: Certificate
            let key: Certificate.PrivateKey
            do {
                (certificate, key) = try issuer.sign(leaf, days: days, authority)
            } catch {
                throw Problem(code: .system, description: "cannot sign the certificate of \(name): \(error)")
            }
            try write(certificate, key, name)
            summaries.append(CertificateSummary(certificate, file: file(name, "pem"), line: 1))
        }
        return Result(isNewAuthority: isNew, certificates: summaries)
    }

    private func readAuthority(now: Date) throws(Problem) -> SigningAuthority {
        let authority: SigningAuthority
        do {
            authority = try SigningAuthority(certificate: authorityCertificate, key: authorityKey)
        } catch {
            throw Problem(code: .authority, description: "\(error)")
        }
        guard authority.certificate.notValidAfter > now else {
            throw Problem(
                code: .authority,
                description: "\(authorityCertificate): the CA has expired; create a new one in another folder")
        }
        return authority
    }

    private func existing(_ leaf: LeafCertificate, _ type: String) -> Problem {
        let (file, name) = (file(leaf.name.text, type), leaf.name.text)
        return Problem(
            code: .arguments,
            description: "\(file) exists already: to renew the certificate of \(name), first move its .pem and .key "
                + "away, or create it in another folder with the same ca.pem and ca.key")
    }

    private func exists(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0
    }

    /// Writes the key first: a certificate without its key would be of no use.
    private func write(_ certificate: Certificate, _ key: Certificate.PrivateKey, _ name: String) throws(Problem) {
        let texts: (key: String, certificate: String)
        do {
            texts = (try key.serializeAsPEM().pemString, try certificate.serializeAsPEM().pemString)
        } catch {
            throw Problem(code: .system, description: "cannot encode the certificate of \(name): \(error)")
        }
        try Self.write(texts.key + "\n", to: file(name, "key"), mode: 0o600)
        try Self.write(texts.certificate + "\n", to: file(name, "pem"), mode: 0o644)
    }

    /// Writes a new file as a whole or not at all. Never replaces a file.
    ///
    /// `link` fails if the name exists, unlike `rename`.
    private static func write(_ text: String, to path: String, mode: mode_t) throws(Problem) {
        let part = "\(path).\(getpid()).part"
        let descriptor = open(part, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, mode)
        guard descriptor >= 0 else { throw systemProblem("cannot write \(path)") }
        defer {
            close(descriptor)
            unlink(part)
        }
        do {
            try Array(text.utf8).withUnsafeBytes { try writeAll($0, to: descriptor, name: path) }
        } catch {
            throw Problem(code: .system, description: "\(error)")
        }
        guard fsync(descriptor) == 0, link(part, path) == 0 else { throw systemProblem("cannot write \(path)") }
    }

    private static func systemProblem(_ operation: String) -> Problem {
        Problem(code: .system, description: "\(SystemError(operation))")
    }
}
