import Crypto
import Foundation
import SwiftASN1
import TestSupport
import X509

/// A CA that signs certificates for tests.
struct TestAuthority {
    let certificate: Certificate
    let key: P256.Signing.PrivateKey

    /// - Parameter lifetime: the validity, in seconds from now.
    init(_ name: String = "test CA", lifetime: ClosedRange<TimeInterval> = -3_600...86_400 * 365) throws {
        key = P256.Signing.PrivateKey()
        let subject = try DistinguishedName { CommonName(name) }
        certificate = try Certificate(
            version: .v3, serialNumber: .init(), publicKey: .init(key.publicKey),
            notValidBefore: Date(timeIntervalSinceNow: lifetime.lowerBound),
            notValidAfter: Date(timeIntervalSinceNow: lifetime.upperBound), issuer: subject, subject: subject,
            extensions: Certificate.Extensions {
                Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
                Critical(KeyUsage(keyCertSign: true, cRLSign: true))
            }, issuerPrivateKey: .init(key))
    }

    /// Signs a certificate for a new key.
    func issue(_ leaf: TestLeaf) throws -> TestIdentity {
        let key = P256.Signing.PrivateKey()
        let names: [GeneralName] =
            leaf.uris.map { .uniformResourceIdentifier($0) } + leaf.dnsNames.map { .dnsName($0) }
            + leaf.addresses.map { .ipAddress(ASN1OctetString(contentBytes: $0[...])) }
        let certificate = try Certificate(
            version: .v3, serialNumber: .init(), publicKey: .init(key.publicKey),
            notValidBefore: Date(timeIntervalSinceNow: leaf.lifetime.lowerBound),
            notValidAfter: Date(timeIntervalSinceNow: leaf.lifetime.upperBound), issuer: self.certificate.subject,
            subject: DistinguishedName { CommonName(leaf.commonName) },
            extensions: Certificate.Extensions {
                Critical(BasicConstraints.notCertificateAuthority)
                try ExtendedKeyUsage(leaf.usages)
                if !names.isEmpty { SubjectAlternativeNames(names) }
            }, issuerPrivateKey: .init(self.key))
        return TestIdentity(certificate: certificate, key: .init(key))
    }
}

/// What a test wants to have in a certificate.
struct TestLeaf {
    var commonName = "leaf"
    var uris: [String] = []
    var dnsNames: [String] = []
    var addresses: [[UInt8]] = []
    /// The validity, in seconds from now.
    var lifetime: ClosedRange<TimeInterval> = -3_600...86_400 * 60
    var usages: [ExtendedKeyUsage.Usage] = [.serverAuth, .clientAuth]
}

/// A certificate with its key.
struct TestIdentity {
    let certificate: Certificate
    let key: Certificate.PrivateKey

    /// Writes `NAME.pem` and `NAME.key`.
    func write(_ name: String, in folder: TestFolder) throws -> (certificate: String, key: String) {
        (
            try folder.write(certificate.serializeAsPEM().pemString + "\n", to: "\(name).pem"),
            try folder.write(key.serializeAsPEM().pemString + "\n", to: "\(name).key", mode: 0o600)
        )
    }
}

extension TestAuthority {
    /// Writes `NAME.pem`.
    func write(_ name: String, in folder: TestFolder) throws -> String {
        try folder.write(certificate.serializeAsPEM().pemString + "\n", to: "\(name).pem")
    }
}

extension TestFolder {
    /// Writes a file and returns its path.
    func write(_ text: String, to name: String, mode: mode_t = 0o644) throws -> String {
        let path = file(name)
        try text.write(toFile: path, atomically: false, encoding: .utf8)
        chmod(path, mode)
        return path
    }
}
