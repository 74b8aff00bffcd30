import AstraNetTLS
import Crypto
import FoundationEssentials
import SwiftASN1
import X509

/// The certificate of a host or client that is to be signed.
struct LeafCertificate {
    var name: CertificateName
    /// The subject alternative names.
    var names: [GeneralName]
    var usages: [ExtendedKeyUsage.Usage]

    /// A host is a server for its clients, and a client of the hosts that it joins.
    static func host(_ name: CertificateName, aliases: [HostAlias], prefix: IdentityPrefix) -> LeafCertificate {
        let aliases: [GeneralName] = aliases.map {
            switch $0.identity {
            case .dns(let name): .dnsName(name)
            case .address(let bytes): .ipAddress(ASN1OctetString(contentBytes: bytes[...]))
            }
        }
        return LeafCertificate(
            name: name, names: [.uniformResourceIdentifier(prefix.uri("host", name)), .dnsName(name.text)] + aliases,
            usages: [.serverAuth, .clientAuth])
    }

    static func client(_ name: CertificateName, prefix: IdentityPrefix) -> LeafCertificate {
        LeafCertificate(
            name: name, names: [.uniformResourceIdentifier(prefix.uri("client", name))], usages: [.clientAuth])
    }
}

/// Creates and signs certificates (RFC 5280).
struct CertificateIssuer {
    private static let day: TimeInterval = 86_400
    /// A certificate is valid from one hour before now on: the clocks of other machines may be slow.
    private static let clockDifference: TimeInterval = 3_600

    let now: Date

    /// Creates a CA with a new key.
    ///
    /// Its name is random, so that a CA of another folder has another name.
    ///
    /// - Parameter days: the validity.
    func authority(days: Int) throws -> SigningAuthority {
        let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
        let suffix = String(UInt32.random(in: 0...UInt32.max), radix: 16)
        let subject = try DistinguishedName { CommonName("chanserv CA \(suffix)") }
        let certificate = try Certificate(
            version: .v3, serialNumber: Self.serialNumber(), publicKey: key.publicKey, notValidBefore: beginning,
            notValidAfter: end(days), issuer: subject, subject: subject,
            extensions: Certificate.Extensions {
                Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
                Critical(KeyUsage(keyCertSign: true, cRLSign: true))
                SubjectKeyIdentifier(hash: key.publicKey)
            }, issuerPrivateKey: key)
        return SigningAuthority(certificate: certificate, key: key)
    }

    /// Signs a certificate for a new key. It ends with the CA at the latest.
    func sign(
        _ leaf: LeafCertificate, days: Int, _ authority: SigningAuthority
    ) throws -> (certificate: Certificate, key: Certificate.PrivateKey) {
        let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
        let authorityKey =
            try authority.certificate.extensions.subjectKeyIdentifier?.keyIdentifier
            ?? SubjectKeyIdentifier(hash: authority.certificate.publicKey).keyIdentifier
        // A common name has at most 64 characters (RFC 5280 appendix A.1).
        let subject = try DistinguishedName { CommonName(String(leaf.name.text.prefix(64))) }
        let certificate = try Certificate(
            version: .v3, serialNumber: Self.serialNumber(), publicKey: key.publicKey, notValidBefore: beginning,
            notValidAfter: min(end(days), authority.certificate.notValidAfter),
            issuer: authority.certificate.subject, subject: subject,
            extensions: Certificate.Extensions {
                Critical(BasicConstraints.notCertificateAuthority)
                Critical(KeyUsage(digitalSignature: true))
                try ExtendedKeyUsage(leaf.usages)
                SubjectAlternativeNames(leaf.names)
                SubjectKeyIdentifier(hash: key.publicKey)
                AuthorityKeyIdentifier(keyIdentifier: authorityKey)
            }, issuerPrivateKey: authority.key)
        return (certificate, key)
    }

    private var beginning: Date { now.addingTimeInterval(-Self.clockDifference) }

    private func end(_ days: Int) -> Date { now.addingTimeInterval(TimeInterval(days) * Self.day) }

    /// A random serial number of 128 bits. The first bit is 0, because the number must be positive, and the second 1, so
    /// that the length is always the same.
    private static func serialNumber() -> Certificate.SerialNumber {
        var bytes = (0..<16).map { _ in UInt8.random(in: 0...255) }
        bytes[0] = bytes[0] & 0x7F | 0x40
        return Certificate.SerialNumber(bytes: bytes)
    }
}
