internal import NIOSSL

/// An error of NIOSSL, by its meaning for a link.
enum TLSFailure {
    /// The peer closed the connection without an alert, or did not finish closing.
    case unclean
    /// TLS failed, with the reason.
    case tls(TLSFailureReason)

    /// Classifies an error. Returns `nil` for an error that is not one of TLS.
    init?(_ error: any Error) {
        switch error {
        case NIOSSLError.uncleanShutdown, NIOSSLError.shutdownFailed, is NIOSSLCloseTimedOutError,
            BoringSSLError.zeroReturn:
            self = .unclean
        case NIOSSLError.handshakeFailed(let error): self = .tls(TLSFailureReason(error))
        case let error as BoringSSLError: self = .tls(TLSFailureReason(error))
        case let error as NIOSSLError: self = .tls(.other("\(error)"))
        case let error as NIOSSLExtraError: self = .tls(.other("\(error)"))
        default: return nil
        }
    }
}

/// The reason why TLS failed.
enum TLSFailureReason: Hashable, Sendable {
    /// The certificate of the peer cannot be verified.
    case certificate
    /// The client has no certificate.
    case noClientCertificate
    /// The first bytes of the peer are not TLS.
    case notTLS
    /// The peers have no version in common.
    case version
    /// The peer closed the connection during the handshake.
    case closed
    /// The peer sent an alert: its name, such as `UNKNOWN_CA`.
    case alert(String)
    /// Another reason, in the words of BoringSSL.
    case other(String)

    /// The reasons of BoringSSL that have a meaning of their own.
    private static let meanings: [(name: String, reason: TLSFailureReason)] = [
        ("CERTIFICATE_VERIFY_FAILED", .certificate),
        ("PEER_DID_NOT_RETURN_A_CERTIFICATE", .noClientCertificate),
        ("WRONG_VERSION_NUMBER", .notTLS), ("HTTP_REQUEST", .notTLS), ("HTTPS_PROXY_REQUEST", .notTLS),
        ("UNSUPPORTED_PROTOCOL", .version), ("ALERT_PROTOCOL_VERSION", .version),
    ]

    /// The only part of BoringSSL's error that NIOSSL gives out is a text such as `Error: 268435581
    /// error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED at …`.
    init(_ error: BoringSSLError) {
        guard case .sslError(let stack) = error, !stack.isEmpty else {
            self = .other("\(error)")
            return
        }
        if stack.contains(.eofDuringHandshake) {
            self = .closed
            return
        }
        let names = stack.compactMap { error in
            error.description.firstMatch(of: #/OPENSSL_internal:(\w+)/#).map { String($0.output.1) }
        }
        for name in names {
            if let meaning = Self.meanings.first(where: { name.hasSuffix($0.name) }) {
                self = meaning.reason
                return
            }
            if let alert = name.wholeMatch(of: #/(?:TLSV1|SSLV3)_(?:ALERT_)?(\w+)/#) {
                self = .alert(String(alert.output.1))
                return
            }
        }
        self = .other(names.first ?? "\(error)")
    }
}
