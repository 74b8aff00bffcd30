/// The notation of addresses at which a node accepts links over TLS (`docs/protocol.md` §3).
enum SecureAddress {
    /// The payload of a DISCOVER whose sender can use such addresses.
    static let ability = "tls"
    /// The beginning of the payload of FOLLOW, before `ip:port`.
    static let prefix = "tls:"
}
