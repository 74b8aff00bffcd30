/// Rules about what peers may do, by the names of their identities (`docs/protocol.md` §10.3).
///
/// What no rule allows is denied. A node without access rules allows everything.
///
/// Text is compared byte by byte: a name that only looks the same, such as another Unicode form, does not match.
public struct AccessRules: Sendable, Hashable {
    /// The identities, in the order of the file. ``anyone`` needs no entry.
    public var identities: [Identity]
    /// The services that peers may announce. Of several entries with the same pattern the first one decides.
    public var announce: [Announce]
    /// The names of the identities that may carry ops of other hosts.
    public var relay: Set<String>

    /// Creates rules. By default they allow nothing.
    public init(identities: [Identity] = [], announce: [Announce] = [], relay: Set<String> = []) {
        self.identities = identities
        self.announce = announce
        self.relay = relay
    }

    /// The name that stands for every peer in ``announce``, ``relay`` and the lists of routes, also for a peer that
    /// proves nothing. No identity has it.
    public static let anyone = "any"

    /// A name for peers.
    public struct Identity: Sendable, Hashable {
        /// The name that other rules use.
        public var name: String
        /// The peer has the identity if at least one of these matches.
        public var matchers: [Matcher]

        public init(name: String, matchers: [Matcher]) {
            self.name = name
            self.matchers = matchers
        }
    }

    /// Properties of a peer. All that are set must match. A matcher without any matches no peer.
    public struct Matcher: Sendable, Hashable {
        /// A URI of the certificate. A `*` at the end stands for any text, also for none.
        public var uri: String?
        /// A DNS name of the certificate, in any case. `*.` at the beginning stands for exactly one label. A wildcard
        /// name in the certificate matches nothing.
        public var dns: String?
        /// SHA-256 of the public key: ``PeerCredentials/keyFingerprint``, 64 hexadecimal digits in lower case.
        public var keyFingerprint: String?
        /// The user ID of the process at the other end of a Unix socket.
        public var userID: UInt32?
        /// The address of the listener that accepted the connection: ``PeerCredentials/listener``.
        public var listener: String?

        public init(
            uri: String? = nil, dns: String? = nil, keyFingerprint: String? = nil, userID: UInt32? = nil,
            listener: String? = nil
        ) {
            self.uri = uri
            self.dns = dns
            self.keyFingerprint = keyFingerprint
            self.userID = userID
            self.listener = listener
        }
    }

    /// The peers that may announce the services with a name.
    public struct Announce: Sendable, Hashable {
        /// The name of a service without its environment. A `*` at the end stands for any text, also for none.
        public var pattern: String
        /// The names of identities, or ``anyone``.
        public var names: Set<String>

        public init(pattern: String, names: Set<String>) {
            self.pattern = pattern
            self.names = names
        }
    }

    /// Returns the names of the identities of a peer, in the order of ``identities``. ``anyone`` is not among them.
    ///
    /// - Parameter credentials: what the connection of the link has proved.
    public func names(of credentials: PeerCredentials) -> [String] {
        identities.filter { identity in identity.matchers.contains { $0.matches(credentials) } }.map(\.name)
    }

    /// Returns whether a peer may announce a service. The entry with the longest matching pattern decides alone; a
    /// pattern without `*` counts as longer than the same text with `*`.
    ///
    /// - Parameters:
    ///   - service: the name without its environment.
    ///   - names: the result of ``names(of:)`` for the link.
    public func mayAnnounce(_ service: String, _ names: some Sequence<String>) -> Bool {
        var best: (entry: Announce, specificity: Int)?
        for entry in announce {
            let pattern = Pattern(entry.pattern)
            if pattern.matches(service), pattern.specificity > best?.specificity ?? -1 {
                best = (entry, pattern.specificity)
            }
        }
        return best.map { Self.allows($0.entry.names, names) } ?? false
    }

    /// Returns whether a peer may carry ops of other hosts.
    ///
    /// - Parameter names: the result of ``names(of:)`` for the link.
    public func mayRelay(_ names: some Sequence<String>) -> Bool {
        Self.allows(relay, names)
    }

    /// Returns whether a list of a rule or of a route contains one of the names of a peer, or ``anyone``.
    ///
    /// - Parameters:
    ///   - allowed: the list.
    ///   - names: the result of ``names(of:)`` for the link.
    public static func allows(_ allowed: Set<String>, _ names: some Sequence<String>) -> Bool {
        allowed.contains(anyone) || names.contains(where: allowed.contains)
    }
}

extension AccessRules.Matcher {
    /// Returns whether all properties that are set are those of a peer.
    public func matches(_ credentials: PeerCredentials) -> Bool {
        guard self != AccessRules.Matcher() else { return false }
        if let uri, !credentials.uris.contains(where: Pattern(uri).matches) { return false }
        if let dns, !credentials.dnsNames.contains(where: { Self.matches(dnsName: $0, dns) }) { return false }
        if let keyFingerprint, credentials.keyFingerprint != keyFingerprint { return false }
        if let userID, credentials.userID != userID { return false }
        if let listener, credentials.listener != listener { return false }
        return true
    }

    /// Returns whether a DNS name matches a pattern, see ``dns``.
    private static func matches(dnsName name: String, _ pattern: String) -> Bool {
        var name = name.utf8.map(lowercased)[...]
        var pattern = pattern.utf8.map(lowercased)[...]
        guard !name.isEmpty, !name.contains(UInt8(ascii: "*")) else { return false }
        if pattern.starts(with: "*.".utf8) {
            guard let dot = name.firstIndex(of: UInt8(ascii: ".")), dot > name.startIndex else { return false }
            (name, pattern) = (name[dot...], pattern.dropFirst())
        }
        return name == pattern
    }

    /// Returns an ASCII letter in lower case, and any other byte as it is.
    private static func lowercased(_ byte: UInt8) -> UInt8 {
        (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
    }
}

/// A text that may end with `*`, which stands for any text.
private struct Pattern {
    private let prefix: Substring.UTF8View
    private let isExact: Bool

    init(_ text: String) {
        isExact = text.utf8.last != UInt8(ascii: "*")
        prefix = isExact ? text[...].utf8 : Substring(text.utf8.dropLast()).utf8
    }

    /// A number that is larger for a longer pattern. Patterns that match the same text and have the same number are
    /// equal.
    var specificity: Int { 2 * prefix.count + (isExact ? 1 : 0) }

    func matches(_ text: String) -> Bool {
        isExact ? text.utf8.elementsEqual(prefix) : text.utf8.starts(with: prefix)
    }
}
