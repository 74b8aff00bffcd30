internal import NIOSSL
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
    /// The public key that belongs to it.
    var publicKey: Certificate.PublicKey
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
                throw Self.invalid("certificate", path, authority.line, error)
            }
            guard isAuthority else {
                throw TLSFileError(
                    file: path, line: authority.line,
                    problem: "the certificate (of '\(certificate.subject)') is not one of a CA",
                    remedy: "give the certificate of '\(certificate.issuer)', which signed it")
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
                throw Self.invalid("certificate", path, block.line, error)
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
            return FileKey(line: block.line, bytes: block.bytes, publicKey: key.publicKey)
        } catch {
            throw TLSFileError(
                file: path, line: block.line, problem: "the private key cannot be decoded: \(error)",
                remedy: "use a key of type ECDSA (P-256, P-384) or RSA (2,048 bits or more)")
        }
    }

    private static func invalid(_ what: String, _ path: String, _ line: Int, _ error: any Error) -> TLSFileError {
        TLSFileError(
            file: path, line: line, problem: "the \(what) cannot be decoded: \(error)",
            remedy: "copy it again from its source")
    }
}

/// A certificate chain with its key, as NIOSSL takes them.
struct LoadedIdentity: Sendable {
    /// The leaf, then the certificates of intermediate CAs.
    let chain: [NIOSSLCertificate]
    /// The private key of the leaf.
    let key: NIOSSLPrivateKey
    /// The summary of the leaf.
    let summary: CertificateSummary

    /// Loads a chain and its key, and checks that they belong together.
    init(certificate: String, key: String) throws(TLSFileError) {
        let chain = try TLSFile(path: certificate).chain()
        let privateKey = try TLSFile(path: key, isPrivate: true).key()
        guard privateKey.publicKey == chain[0].certificate.publicKey else {
            throw TLSFileError(
                file: key, line: privateKey.line,
                problem: "the key does not belong to the certificate in \(certificate)",
                remedy: "give the key that the certificate was made for; the certificate must be the first of its file")
        }
        summary = CertificateSummary(chain[0].certificate, file: certificate, line: chain[0].line)
        self.chain = try chain.niossl(file: certificate)
        do {
            self.key = try NIOSSLPrivateKey(bytes: privateKey.bytes, format: .der)
        } catch {
            throw TLSFileError(
                file: key, line: privateKey.line, problem: "TLS cannot use the private key: \(error)",
                remedy: "use a key of type ECDSA (P-256, P-384) or RSA (2,048 bits or more)")
        }
    }
}

/// The CA certificates of a file, as NIOSSL takes them.
struct LoadedAuthorities: Sendable {
    /// The path of the file.
    let file: String
    /// The certificates for NIOSSL.
    let roots: [NIOSSLCertificate]
    /// The parsed certificates. They serve messages only.
    let certificates: [Certificate]
    /// The summaries.
    let summaries: [CertificateSummary]

    init(file: String) throws(TLSFileError) {
        let authorities = try TLSFile(path: file).authorities()
        self.file = file
        roots = try authorities.niossl(file: file)
        certificates = authorities.map(\.certificate)
        summaries = authorities.map { CertificateSummary($0.certificate, file: file, line: $0.line) }
    }
}

extension [FileCertificate] {
    fileprivate func niossl(file: String) throws(TLSFileError) -> [NIOSSLCertificate] {
        var certificates: [NIOSSLCertificate] = []
        for certificate in self {
            do {
                try certificates.append(NIOSSLCertificate(bytes: certificate.bytes, format: .der))
            } catch {
                throw TLSFileError(
                    file: file, line: certificate.line, problem: "TLS cannot use the certificate: \(error)",
                    remedy: "copy it again from its source")
            }
        }
        return certificates
    }
}
