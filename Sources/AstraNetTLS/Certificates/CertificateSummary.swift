internal import Crypto
internal import FoundationEssentials
internal import SwiftASN1
package import X509

/// What people need to know about a certificate. `chanserv check`, `status` and `certificates show` print it.
public struct CertificateSummary: Hashable, Sendable {
    /// The path of the file.
    public var file: String
    /// The line of the certificate in the file, from 1.
    public var line: Int
    /// The serial number: hexadecimal digits in lower case.
    public var serialNumber: String
    /// The URIs among the subject alternative names.
    public var uris: [String]
    /// The DNS names among the subject alternative names, in lower case.
    public var dnsNames: [String]
    /// The IP addresses among the subject alternative names.
    public var addresses: [String]
    /// The beginning of the validity, in seconds since 1970 (UTC).
    public var notBefore: Int64
    /// The end of the validity, in seconds since 1970 (UTC).
    public var notAfter: Int64
    /// SHA-256 of the SubjectPublicKeyInfo (DER): 64 hexadecimal digits in lower case.
    public var keyFingerprint: String
    /// The subject, such as `CN=router-1`. For people; it identifies no one.
    public var subject: String
    /// The issuer, such as `CN=chanserv CA`.
    public var issuer: String

    /// The time before the end of the validity from which on ``warning(at:)`` warns: 30 days, in seconds.
    public static let warningTime: Int64 = 30 * 86_400

    package init(_ certificate: Certificate, file: String, line: Int) {
        let names = CertificateNames(leniently: certificate)
        self.file = file
        self.line = line
        serialNumber = certificate.serialNumber.bytes.hexadecimal
        uris = names.uris
        dnsNames = names.dnsNames
        addresses = names.addresses.map(\.addressText)
        notBefore = Int64(certificate.notValidBefore.timeIntervalSince1970)
        notAfter = Int64(certificate.notValidAfter.timeIntervalSince1970)
        keyFingerprint = certificate.publicKey.fingerprint
        subject = certificate.subject.printed
        issuer = certificate.issuer.printed
    }

    /// The beginning of the validity as text, such as `2026-12-01T12:00:00Z`.
    public var beginning: String { Self.text(of: notBefore) }

    /// The end of the validity as text, such as `2027-03-31T12:00:00Z`.
    public var expiry: String { Self.text(of: notAfter) }

    /// Returns the warning about the validity: `nil` if the certificate is valid now and for 30 more days.
    ///
    /// - Parameter now: seconds since 1970.
    public func warning(at now: Int64) -> String? {
        if now > notAfter { return "the certificate (serial \(serialNumber)) expired on \(expiry); renew it" }
        if now < notBefore {
            return "the certificate (serial \(serialNumber)) is valid only from \(beginning) on; "
                + "check the clock of this machine"
        }
        guard notAfter - now < Self.warningTime else { return nil }
        let days = (notAfter - now) / 86_400
        return "the certificate (serial \(serialNumber)) expires in \(days) day\(days == 1 ? "" : "s"), on \(expiry); "
            + "renew it"
    }

    private static func text(of seconds: Int64) -> String {
        Date(timeIntervalSince1970: TimeInterval(seconds)).formatted(.iso8601)
    }
}

extension CertificateSummary {
    /// Returns the summaries of all certificates of a PEM file, in its order.
    ///
    /// - Parameter path: the path of the file.
    public static func summaries(file path: String) throws(TLSFileError) -> [CertificateSummary] {
        try TLSFile(path: path).chain().map { CertificateSummary($0.certificate, file: path, line: $0.line) }
    }
}

extension Certificate.PublicKey {
    /// SHA-256 of the SubjectPublicKeyInfo (DER): 64 hexadecimal digits in lower case.
    package var fingerprint: String {
        var serializer = DER.Serializer()
        do {
            try serializer.serialize(self)
        } catch {
            // A key that was parsed or created can be encoded.
            preconditionFailure("cannot encode a public key: \(error)")
        }
        return SHA256.hash(data: serializer.serializedBytes).hexadecimal
    }
}

extension DistinguishedName {
    /// Maximum length of ``printed`` in characters. The certificate of a refused peer may have any length.
    static let maximumLength = 200

    /// The name for messages, without control characters and of bounded length.
    var printed: String {
        let scalars = "\(self)".unicodeScalars
        var text = String.UnicodeScalarView()
        for scalar in scalars.prefix(Self.maximumLength) {
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator: text.append("?")
            default: text.append(scalar)
            }
        }
        return String(text) + (scalars.count > Self.maximumLength ? "…" : "")
    }
}

extension Sequence<UInt8> {
    /// Two hexadecimal digits in lower case per byte.
    var hexadecimal: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
