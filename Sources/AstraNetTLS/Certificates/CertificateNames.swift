package import AstraNet
internal import SwiftASN1
package import X509

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// The subject alternative names of a certificate (RFC 5280 §4.2.1.6).
///
/// The distinguished name is never used: it is free text, which parsers have read in different ways.
package struct CertificateNames: Hashable, Sendable {
    /// Maximum number of names that a peer may present (64).
    package static let maximumCount = 64
    /// Maximum length of a URI or DNS name in bytes. A router passes on names of at most 1,024 bytes together.
    package static let maximumLength = 512

    /// The URIs.
    package var uris: [String] = []
    /// The DNS names in lower case.
    package var dnsNames: [String] = []
    /// The IP addresses: 4 or 16 bytes each.
    package var addresses: [[UInt8]] = []

    /// The reason why the names of a certificate are refused.
    package struct Refusal: Error, Hashable, Sendable {
        package var reason: String
    }

    /// Reads the names of a certificate. A certificate without the extension has none. Names of other types are ignored.
    ///
    /// - Throws: ``Refusal`` for names beyond the limits, names with characters other than visible ASCII, or an invalid
    ///   extension.
    package init(_ certificate: Certificate) throws(Refusal) {
        let names: SubjectAlternativeNames
        do {
            names = try certificate.extensions.subjectAlternativeNames ?? SubjectAlternativeNames()
        } catch {
            throw Refusal(reason: "its subject alternative names cannot be decoded")
        }
        guard names.count <= Self.maximumCount else {
            throw Refusal(reason: "it has more than \(Self.maximumCount) names")
        }
        for name in names {
            switch name {
            case .uniformResourceIdentifier(let name):
                let uri = try Self.checked(name)
                // RFC 3986 §3. Without a scheme it could be taken for a name of another kind.
                guard uri.prefixMatch(of: #/[A-Za-z][A-Za-z0-9+.\-]*:/#) != nil else {
                    throw Refusal(reason: "it has a URI without a scheme")
                }
                uris.append(uri)
            case .dnsName(let text):
                let name = try Self.checked(text)
                guard name.utf8.allSatisfy({ Self.dnsCharacters.contains($0) }) else {
                    throw Refusal(reason: "it has a DNS name with other characters than those of DNS names")
                }
                dnsNames.append(name.lowercased())
            case .ipAddress(let address):
                guard [4, 16].contains(address.bytes.count) else {
                    throw Refusal(reason: "it has an IP address of \(address.bytes.count) bytes")
                }
                addresses.append(Array(address.bytes))
            case .otherName, .rfc822Name, .x400Address, .directoryName, .ediPartyName, .registeredID: continue
            }
        }
    }

    private static let dnsCharacters = Set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.*".utf8)

    /// Reads the names for people: none if they are refused.
    init(leniently certificate: Certificate) {
        do {
            try self.init(certificate)
        } catch {
            self.init()
        }
    }

    private init() {}

    /// A name with spaces, zero bytes or control characters would be read in another way by other software.
    private static func checked(_ name: String) throws(Refusal) -> String {
        guard name.utf8.count <= maximumLength else {
            throw Refusal(reason: "it has a name of more than \(maximumLength) bytes")
        }
        guard !name.isEmpty, name.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw Refusal(reason: "it has a name with characters other than visible ASCII")
        }
        return name
    }

    /// The DNS names and IP addresses in quotation marks, at most five, for messages.
    var hostText: String {
        let names = (dnsNames + addresses.map(\.addressText)).map { "'\($0)'" }
        guard !names.isEmpty else { return "no host name" }
        let rest = names.count > 5 ? " and \(names.count - 5) more" : ""
        return names.prefix(5).joined(separator: ", ") + rest
    }
}

extension PeerCredentials {
    /// Creates the credentials that a verified certificate proves.
    ///
    /// - Parameter names: the names of the certificate.
    package init(_ names: CertificateNames, of certificate: Certificate) {
        self.init(uris: names.uris, dnsNames: names.dnsNames, keyFingerprint: certificate.publicKey.fingerprint)
    }
}

extension [UInt8] {
    /// The text of an IP address of 4 or 16 bytes.
    var addressText: String {
        let family = count == 4 ? AF_INET : AF_INET6
        return String(unsafeUninitializedCapacity: Int(INET6_ADDRSTRLEN)) { text in
            text.withMemoryRebound(to: CChar.self) { text in
                inet_ntop(family, self, text.baseAddress, socklen_t(text.count)).map { strlen($0) } ?? 0
            }
        }
    }

    /// Parses an IP address. Returns `nil` for other text.
    init?(address text: String) {
        for (family, size) in [(AF_INET, 4), (AF_INET6, 16)] {
            var bytes = [UInt8](repeating: 0, count: size)
            if inet_pton(family, text, &bytes) == 1 {
                self = bytes
                return
            }
        }
        return nil
    }
}
