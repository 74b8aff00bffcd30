import ArgumentParser
import AstraNetTLS

/// The name of a certificate of `chanserv certificates new`: a DNS name in lower case, which is also a file name.
struct CertificateName: Hashable {
    let text: String

    init(_ text: String) throws {
        guard ServerIdentity(text) == .dns(text) else {
            throw ValidationError(
                "'\(text.visible)' is not a DNS name: lower-case letters, digits, '-' and '_', in parts of at most 63 "
                    + "characters with '.' between them")
        }
        // The CA has the files of this name.
        guard text != "ca" else { throw ValidationError("the name 'ca' is for the CA") }
        self.text = text
    }
}

/// A further name of a host: an IP address or a DNS name.
struct HostAlias: Hashable {
    let identity: ServerIdentity

    init(_ text: String) throws {
        guard let identity = ServerIdentity(text) else {
            throw ValidationError("'\(text.visible)' is neither an IP address nor a DNS name; give it without a port")
        }
        self.identity = identity
    }
}

/// The beginning of the URIs in certificates, such as `spiffe://mesh`.
struct IdentityPrefix: Hashable {
    /// Maximum length in bytes. A name has at most 253 more, and a peer accepts URIs of 1,024 bytes.
    static let maximumLength = 700
    static let standard = IdentityPrefix(unchecked: "spiffe://mesh")

    let text: String

    private init(unchecked text: String) { self.text = text }

    init(_ text: String) throws {
        guard text.wholeMatch(of: #/[a-z][a-z0-9+.\-]*://[!-~]*[!-.0-~]/#) != nil,
            text.utf8.count <= Self.maximumLength
        else {
            throw ValidationError(
                "'\(text.visible)' is not the beginning of a URI, such as spiffe://mesh, without '/' at its end")
        }
        self.text = text
    }

    func uri(_ kind: String, _ name: CertificateName) -> String { "\(text)/\(kind)/\(name.text)" }
}
