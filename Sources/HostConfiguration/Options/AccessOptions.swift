/// The section `access`: who a peer is, and what peers may do. What no rule allows is denied.
///
/// The sets of names contain names of ``identities`` and ``anyone``.
public struct AccessOptions: Sendable, Hashable {
    /// The identities (`identities`), in the order of the file.
    public var identities: [Identity] = []
    /// Who may announce which names (`announce`), in the order of the file. No two have the same pattern.
    public var announce: [Announce] = []
    /// Who may carry ops of other hosts (`relay`). Empty by default.
    public var relay: Set<String> = []

    public init() {}

    /// The name that stands for every peer, also for one without an identity. It is the same as in `AccessRules`.
    public static let anyone = "any"

    /// A name for peers.
    public struct Identity: Sendable, Hashable {
        /// The key of the entry, which rules refer to.
        public var name: String
        /// A peer has the identity if one of these matches. At least one.
        public var matchers: [Matcher]
    }

    /// Properties of a peer. All that are set must match; at least one is set.
    public struct Matcher: Sendable, Hashable {
        /// A URI of the peer's certificate (`uri`). A `*` at the end stands for any text.
        public var uri: String?
        /// A DNS name of the peer's certificate (`dns`). `*.` at the beginning stands for exactly one label.
        public var dns: String?
        /// SHA-256 of the peer's public key (`sha256`), 64 hexadecimal digits in lower case.
        public var sha256: String?
        /// The user ID of the process at the other end of a Unix socket (`uid`).
        public var userID: UInt32?
        /// The listener that accepted the connection (`listen`), one of `node.listen`.
        public var listen: HostAddress?
    }

    /// The peers that may announce the services with a name.
    public struct Announce: Sendable, Hashable {
        /// The virtual address without the environment (`vaddr`). A `*` at the end stands for any text.
        public var vAddr = ""
        /// The names of identities (`by`).
        public var by: Set<String> = []
    }
}

/// A number of requests per time.
public struct RequestRate: Sendable, Hashable {
    /// The number of requests, 1 to 1,000,000.
    public var requests: Int
    /// The time.
    public var unit: Unit

    public init(requests: Int, per unit: Unit) {
        self.requests = requests
        self.unit = unit
    }

    /// A time in which requests are counted.
    public enum Unit: String, Sendable, Hashable, CaseIterable {
        case second = "s"
        case minute = "m"
        case hour = "h"

        /// The time in seconds.
        public var seconds: Int {
            switch self {
            case .second: 1
            case .minute: 60
            case .hour: 3_600
            }
        }
    }

    /// The requests of one second, rounded up; at least 1.
    public var perSecond: Int { (requests + unit.seconds - 1) / unit.seconds }
}

extension RequestRate: CustomStringConvertible {
    /// The notation of the file, such as `100/s`.
    public var description: String { "\(requests)/\(unit.rawValue)" }
}
