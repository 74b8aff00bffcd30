/// The lowest version of TLS that is accepted.
public enum TLSMinimumVersion: String, Hashable, Sendable, CaseIterable {
    /// TLS 1.2 (RFC 5246).
    case tls12 = "1.2"
    /// TLS 1.3 (RFC 8446).
    case tls13 = "1.3"
}

/// The TLS settings of a listener. Paths are absolute, or relative to the working folder of the process.
public struct TLSServerSettings: Hashable, Sendable {
    /// The PEM file of the certificate, with the certificates of intermediate CAs after it.
    public var certificate: String
    /// The PEM file of the private key. Only root and the user of this process may be able to read it.
    public var key: String
    /// The PEM file of the CAs whose certificates clients must have. `nil`: clients need no certificate.
    public var clientCA: String?
    /// Whether connections without TLS are refused (default). Otherwise the first byte of the client decides.
    public var requiresTLS: Bool
    /// The lowest version; TLS 1.3 by default.
    public var minimumVersion: TLSMinimumVersion

    /// Creates settings.
    public init(
        certificate: String, key: String, clientCA: String? = nil, requiresTLS: Bool = true,
        minimumVersion: TLSMinimumVersion = .tls13
    ) {
        self.certificate = certificate
        self.key = key
        self.clientCA = clientCA
        self.requiresTLS = requiresTLS
        self.minimumVersion = minimumVersion
    }
}

/// The TLS settings for connections to other nodes. Paths are absolute, or relative to the working folder of the process.
public struct TLSClientSettings: Hashable, Sendable {
    /// The PEM file of the CAs that servers are verified with. `nil`: the system's CAs.
    public var ca: String?
    /// The PEM file of this client's certificate. `nil`: none.
    public var certificate: String?
    /// The PEM file of the private key. Needed with ``certificate``.
    public var key: String?
    /// The DNS name or IP address that the certificate of the server must have.
    ///
    /// `nil`: any certificate that one of the CAs has signed is accepted. That is for nodes whose addresses other nodes
    /// have told: every member of the mesh has a certificate of its CA. It needs ``ca``.
    public var serverName: String?
    /// The lowest version; TLS 1.3 by default.
    public var minimumVersion: TLSMinimumVersion

    /// Creates settings.
    public init(
        ca: String? = nil, certificate: String? = nil, key: String? = nil, serverName: String? = nil,
        minimumVersion: TLSMinimumVersion = .tls13
    ) {
        self.ca = ca
        self.certificate = certificate
        self.key = key
        self.serverName = serverName
        self.minimumVersion = minimumVersion
    }
}
