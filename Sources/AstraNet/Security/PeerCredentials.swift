/// What the connection of a link has proved about the peer (`docs/protocol.md` §10.2).
///
/// A channel handler of a ``LinkSecurity`` fires it as a user inbound event, before the first bytes of the peer.
public struct PeerCredentials: Sendable, Hashable {
    /// The URIs among the subject alternative names of the peer's certificate, in the order of the certificate
    /// (RFC 5280 §4.2.1.6). Empty without a certificate.
    public var uris: [String]
    /// The DNS names among the subject alternative names, in the order of the certificate.
    public var dnsNames: [String]
    /// SHA-256 of the certificate's SubjectPublicKeyInfo (DER): 64 hexadecimal digits in lower case. `nil` without a
    /// certificate.
    public var keyFingerprint: String?
    /// The user ID of the process at the other end of a Unix socket. `nil` for other connections.
    public var userID: UInt32?
    /// The address, as configured, of the listener that accepted the connection; `nil` if this node dialled it.
    public var listener: String?

    /// Creates credentials. By default they prove nothing.
    public init(
        uris: [String] = [], dnsNames: [String] = [], keyFingerprint: String? = nil, userID: UInt32? = nil,
        listener: String? = nil
    ) {
        self.uris = uris
        self.dnsNames = dnsNames
        self.keyFingerprint = keyFingerprint
        self.userID = userID
        self.listener = listener
    }

    /// The name of the peer for logs and plugins: its first URI, else its first DNS name, else `sha256:` and the
    /// fingerprint of its key, else `uid:` and the user ID. Empty if nothing is proved.
    public var name: String {
        if let name = uris.first ?? dnsNames.first { return name }
        if let keyFingerprint { return "sha256:\(keyFingerprint)" }
        return userID.map { "uid:\($0)" } ?? ""
    }
}
