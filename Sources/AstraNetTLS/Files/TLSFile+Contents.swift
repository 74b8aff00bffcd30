internal import SwiftASN1
internal import X509

/// A certificate of a file.
struct FileCertificate: Sendable {
    /// The line of its block.
    var line: Int
    /// The DER bytes.
    var bytes: [UInt8]
    /// The parsed certificate.
    var certificate: Certificate
}

/// A private key of a file.
struct FileKey: Sendable {
    /// The line of its block.
    var line: Int
    /// The DER bytes: PKCS#8, SEC 1 or PKCS#1.
    var bytes: [UInt8]
    /// The parsed key.
    var key: Certificate.PrivateKey
}

extension TLSFile {
    /// Maximum number of CA certificates of a file. Systems come with about 150.
    static let maximumAuthorities = 1_000
    /// Maximum number of certificates of a chain, as BoringSSL's maximum depth allows.
    static let maximumChain = 100

    /// Returns the certificates: the leaf first, then those of intermediate CAs.
    func chain() throws(TLSFileError) -> [FileCertificate] {
        try certificates(what: "certificate", limit: Self.maximumChain)
    }

    /// Returns CA certificates.
    func authorities() throws(TLSFileError) -> [FileCertificate] {
        let authorities = try certificates(what: "CA certificate", limit: Self.maximumAuthorities)
        for authority in authorities {
            let certificate = authority.certificate
            // A certificate that signs itself can be trusted as it is, whatever it says.
            guard certificate.issuer != certificate.subject else { continue }
            var isAuthority = false
            do {
                isAuthority = try certificate.extensions.basicConstraints.map { $0 != .notCertificateAuthority } ?? true
            } catch {
                throw Self.invalid(path, authority.line)
            }
            guard isAuthority else {
                throw TLSFileError(
                    file: path, line: authority.line,
                    problem: "the certificate (of '\(certificate.subject.printed)') is not one of a CA",
                    remedy: "give the certificate of '\(certificate.issuer.printed)', which signed it")
            }
        }
        return authorities
    }

    private func certificates(what: String, limit: Int) throws(TLSFileError) -> [FileCertificate] {
        let found = try blocks(["CERTIFICATE"], what: what)
        guard found.count <= limit else {
            throw TLSFileError(
                file: path, line: found[limit].line, problem: "the file has more than \(limit) certificates",
                remedy: "remove those that are not needed")
        }
        var certificates: [FileCertificate] = []
        for block in found {
            do {
                try certificates.append(
                    FileCertificate(
                        line: block.line, bytes: block.bytes, certificate: Certificate(derEncoded: block.bytes)))
            } catch {
                throw Self.invalid(path, block.line)
            }
        }
        return certificates
    }

    /// Returns the private key.
    func key() throws(TLSFileError) -> FileKey {
        let labels = ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY"]
        let keys = try blocks(labels, what: "private key")
        guard keys.count == 1 else {
            throw TLSFileError(
                file: path, line: keys[1].line, problem: "the file has a second private key",
                remedy: "leave one key in the file")
        }
        let block = keys[0]
        guard !block.hasHeaders, block.label != "ENCRYPTED PRIVATE KEY" else {
            throw TLSFileError(
                file: path, line: block.line, problem: "the private key is encrypted",
                remedy: "decrypt it with: (umask 077 && openssl pkey -in '\(path)' -out decrypted.key)")
        }
        do {
            let key = try Certificate.PrivateKey(
                pemDocument: PEMDocument(type: block.label, derBytes: block.bytes))
            return FileKey(line: block.line, bytes: block.bytes, key: key)
        } catch {
            throw TLSFileError(
                file: path, line: block.line, problem: "the private key is damaged or of an unsupported type",
                remedy: "use a key of type ECDSA (P-256, P-384) or RSA (2,048 bits or more)")
        }
    }

    private static func invalid(_ path: String, _ line: Int) -> TLSFileError {
        TLSFileError(
            file: path, line: line, problem: "the certificate is not a valid X.509 certificate",
            remedy: "copy it again from its source")
    }

    /// Reads a chain and its key, and checks that they belong together.
    static func pair(
        certificate: String, key: String
    ) throws(TLSFileError) -> (chain: [FileCertificate], key: FileKey) {
        let chain = try TLSFile(path: certificate).chain()
        let privateKey = try TLSFile(path: key, isPrivate: true).key()
        guard privateKey.key.publicKey == chain[0].certificate.publicKey else {
            throw TLSFileError(
                file: key, line: privateKey.line,
                problem: "the key does not belong to the certificate in \(certificate)",
                remedy: "give the key that the certificate was made for; the certificate must be the first of its file")
        }
        return (chain, privateKey)
    }
}
