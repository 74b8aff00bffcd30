/// The credentials of the peer of a link, or of a caller behind a router, and its rights by the access rules.
///
/// A class, because each request reads it.
package final class LinkIdentity: Sendable {
    package let credentials: PeerCredentials
    /// The name of the peer for logs and plugins (``PeerCredentials/name``).
    package let name: String
    /// The names of the identities of the access rules that match; empty without rules.
    package let identities: [String]
    /// The access rules of the node; `nil` if everything is allowed.
    let rules: AccessRules?
    /// Whether the peer may send ops of other hosts.
    let mayRelay: Bool

    package init(_ credentials: PeerCredentials = PeerCredentials(), _ rules: AccessRules? = nil) {
        self.credentials = credentials
        self.rules = rules
        name = credentials.name
        identities = rules?.names(of: credentials) ?? []
        mayRelay = rules?.mayRelay(identities) ?? true
    }

    /// The identity of peers that have proved nothing, without access rules.
    package static let unknown = LinkIdentity()

    /// Whether the peer may offer the service.
    ///
    /// - Parameter service: the name without the suffix of the environment.
    func mayAnnounce(_ service: String) -> Bool { rules?.mayAnnounce(service, identities) ?? true }

    /// Whether two identities are the same for the access rules.
    func isSame(as other: LinkIdentity) -> Bool { identities == other.identities && name == other.name }
}
