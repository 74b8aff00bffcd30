internal import AstraNet
internal import FoundationEssentials
internal import NIOSSL
internal import X509

/// Verifies the names of a peer, and explains failures of TLS to people.
///
/// BoringSSL verifies the chain: signatures, validity, basic constraints, key usages and name constraints (RFC 5280). A
/// verifier of our own in NIOSSL's callback would replace all of it. BoringSSL does not tell why it refused a chain, so
/// ``message(for:certificate:at:)`` examines the refused certificate again. That decides only about words.
struct HandshakeDiagnosis: Sendable {
    /// A reason to refuse a verified certificate.
    struct Problem: Error {
        var message: String
    }

    /// Whether this node is the server.
    var isServer: Bool
    var minimumVersion: TLSMinimumVersion
    /// The CAs that the peer is verified with; `nil`: those of the system.
    var authorities: LoadedAuthorities?
    /// The name that the server must have; `nil`: any.
    var serverName: ServerIdentity?

    /// Checks the names of a verified peer and returns its credentials.
    ///
    /// - Parameter peer: the address of the peer.
    func credentials(of certificate: NIOSSLCertificate?, at peer: String) throws(Problem) -> PeerCredentials {
        guard let certificate, let leaf = Self.parse(certificate) else {
            throw Problem(message: "the certificate of \(peer) cannot be decoded; renew it")
        }
        let names: CertificateNames
        do {
            names = try CertificateNames(leaf)
        } catch {
            throw Problem(message: "the certificate of \(peer) is refused: \(error.reason); renew it")
        }
        // BoringSSL does not verify again when a session is resumed.
        if let validity = Self.validity(of: leaf, Date()) {
            throw Problem(message: "the certificate of \(peer) \(validity)")
        }
        if let serverName, !serverName.matches(names) { throw Problem(message: wrongName(names, serverName, peer)) }
        return PeerCredentials(names, of: leaf)
    }

    private func wrongName(_ names: CertificateNames, _ expected: ServerIdentity, _ peer: String) -> String {
        let expected =
            switch expected {
            case .dns(let name): name
            case .address(let bytes): bytes.addressText
            }
        return "the certificate of \(peer) is for \(names.hostText), not for '\(expected)'; set the server name to a "
            + "name of the certificate, or renew the certificate with this name"
    }

    /// Returns the message about a client without TLS on a listener that requires it.
    func plainClient(at peer: String) -> String {
        "\(peer) sent no TLS handshake, which this listener requires; set up TLS for the client, or let the listener "
            + "accept plain connections too"
    }

    /// Returns the message about a failure of TLS.
    ///
    /// - Parameter certificate: the certificate of the peer, if it presented one. It is not verified.
    func message(for reason: TLSFailureReason, certificate: NIOSSLCertificate?, at peer: String) -> String {
        switch reason {
        case .certificate:
            return certificate.flatMap(Self.parse).map { refusal(of: $0, peer) }
                ?? "the certificate of \(peer) cannot be verified"
        case .noClientCertificate:
            return "\(peer) has no client certificate, which this listener requires; give the client a certificate of "
                + "one of the CAs in \(authorities?.file ?? "the client CA file")"
        case .notTLS:
            return "\(peer) sent bytes that are not TLS; it is another kind of server, or does not use TLS on this port"
        case .version:
            return "\(peer) and this node have no TLS version in common (here at least \(minimumVersion.rawValue)); "
                + "update the older one, or lower the minimum version"
        case .closed:
            return "\(peer) closed the connection during the TLS handshake"
        case .alert(let name):
            return message(forAlert: name, peer)
        case .other(let text):
            return "the TLS connection with \(peer) failed: \(text)"
        }
    }

    /// Examines a certificate that BoringSSL refused.
    private func refusal(of leaf: Certificate, _ peer: String) -> String {
        let subject = "the certificate of \(peer)"
        let now = Date()
        if let validity = Self.validity(of: leaf, now) { return "\(subject) \(validity)" }
        let issuer = leaf.issuer.printed
        guard let authorities else {
            return "\(subject) is issued by '\(issuer)', which this system does not trust; give the file of its CA"
        }
        let issuers = authorities.certificates.filter { $0.subject == leaf.issuer }
        guard !issuers.isEmpty else {
            return "\(subject) is issued by '\(issuer)', which is not one of the CAs in \(authorities.file); add this "
                + "CA to the file, or have the peer send the certificates of intermediate CAs"
        }
        guard let signer = issuers.first(where: { $0.publicKey.isValidSignature(leaf.signature, for: leaf) }) else {
            return "\(subject) is issued by another CA with the name '\(issuer)' than the one in \(authorities.file); "
                + "use certificates of one CA on both sides"
        }
        if let validity = Self.validity(of: signer, now) {
            return "\(subject) cannot be verified: the CA '\(issuer)' in \(authorities.file) \(validity)"
        }
        return "\(subject) may not be used by a \(isServer ? "client" : "server"), or its CA may not sign it; renew it "
            + "with the extended key usage \(isServer ? "clientAuth" : "serverAuth")"
    }

    private static func validity(of certificate: Certificate, _ now: Date) -> String? {
        if now > certificate.notValidAfter {
            return "expired on \(certificate.notValidAfter.formatted(.iso8601)); renew it"
        }
        if now < certificate.notValidBefore {
            return "is valid only from \(certificate.notValidBefore.formatted(.iso8601)) on; check the clocks of both "
                + "machines"
        }
        return nil
    }

    /// The alerts of RFC 8446 §6.2, with BoringSSL's names.
    private func message(forAlert name: String, _ peer: String) -> String {
        let own = isServer ? "the certificate of this listener" : "the client certificate of this node"
        return switch name {
        case "CERTIFICATE_REQUIRED":
            "\(peer) requires a client certificate; set a certificate and its key"
        case "UNKNOWN_CA":
            "\(peer) refused \(own): it does not know the CA; use a certificate of a CA that the peer trusts"
        case "CERTIFICATE_EXPIRED":
            "\(peer) refused \(own): it has expired, or a clock is wrong; renew it"
        case "BAD_CERTIFICATE", "UNSUPPORTED_CERTIFICATE", "CERTIFICATE_REVOKED", "CERTIFICATE_UNKNOWN",
            "ACCESS_DENIED":
            "\(peer) refused \(own) (\(name.lowercased().replacing("_", with: " "))); the log of the peer has the reason"
        default:
            "\(peer) refused the TLS connection (alert \(name.lowercased().replacing("_", with: " ")))"
        }
    }

    private static func parse(_ certificate: NIOSSLCertificate) -> Certificate? {
        do {
            return try Certificate(derEncoded: certificate.toDERBytes())
        } catch {
            // The caller has a message for certificates that cannot be decoded.
            return nil
        }
    }
}
