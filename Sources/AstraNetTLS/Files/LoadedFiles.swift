internal import Crypto
internal import NIOSSL
package import X509

/// A certificate chain with its key, as NIOSSL takes them.
struct LoadedIdentity: Sendable {
    /// The leaf, then the certificates of intermediate CAs.
    let chain: [NIOSSLCertificate]
    /// The private key of the leaf.
    let key: NIOSSLPrivateKey
    /// The summary of the leaf.
    let summary: CertificateSummary

    /// Loads a chain and its key, and checks that they belong together.
    ///
    /// - Parameter isServer: whether the certificate is for a listener, or for a client.
    init(certificate: String, key: String, isServer: Bool) throws(TLSFileError) {
        let (chain, privateKey) = try TLSFile.pair(certificate: certificate, key: key)
        guard chain[0].certificate.allowsSignatures else {
            throw TLSFileError(
                file: certificate, line: chain[0].line,
                problem: "the certificate (of '\(chain[0].certificate.subject.printed)') is not for TLS: its key usage "
                    + "has no digitalSignature",
                remedy: "give the certificate of the host or client, not that of its CA")
        }
        guard chain[0].certificate.isFor(server: isServer) else {
            let usage = isServer ? "serverAuth" : "clientAuth"
            throw TLSFileError(
                file: certificate, line: chain[0].line,
                problem: "the certificate (of '\(chain[0].certificate.subject.printed)') may not be used by a "
                    + "\(isServer ? "server" : "client"): its extended key usage has no \(usage)",
                remedy: "give a certificate with this usage; 'chanserv certificates new --host' makes one for both")
        }
        guard chain[0].certificate.publicKey.isSupported else {
            throw TLSFileError(
                file: certificate, line: chain[0].line, problem: "links cannot use the type of this certificate's key",
                remedy: "use a key of type ECDSA (P-256, P-384) or RSA (2,048 bits or more)")
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

extension Certificate.PublicKey {
    /// Whether both ends of a link can use the key: clients offer no signatures with other types.
    fileprivate var isSupported: Bool {
        Curve25519.Signing.PublicKey(self) == nil && P521.Signing.PublicKey(self) == nil
    }
}

extension Certificate {
    /// Whether the extended key usage (RFC 5280 §4.2.1.12) allows the use. A certificate without the extension is for
    /// every use.
    fileprivate func isFor(server: Bool) -> Bool {
        do {
            guard let usages = try extensions.extendedKeyUsage else { return true }
            return usages.contains(server ? .serverAuth : .clientAuth) || usages.contains(.any)
        } catch {
            return false
        }
    }

    /// Whether the key may sign handshakes (RFC 8446 §4.4.2.2). A certificate without the extension may.
    fileprivate var allowsSignatures: Bool {
        do {
            return try extensions.keyUsage?.digitalSignature ?? true
        } catch {
            return false
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

/// A CA that can sign certificates: its certificate and key.
package struct SigningAuthority: Sendable {
    package let certificate: Certificate
    package let key: Certificate.PrivateKey

    package init(certificate: Certificate, key: Certificate.PrivateKey) {
        self.certificate = certificate
        self.key = key
    }

    /// Reads the certificate and the key of a CA from PEM files.
    package init(certificate: String, key: String) throws(TLSFileError) {
        let (chain, key) = try TLSFile.pair(certificate: certificate, key: key)
        self.init(certificate: chain[0].certificate, key: key.key)
    }
}
