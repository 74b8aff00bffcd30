/// How a ``Node`` behaves. The defaults are those of the Go implementation where it has them.
public struct NodeConfiguration: Sendable {
    /// The environment, e.g. `staging`: each service name this node binds or looks up gets `.staging` appended
    /// (`docs/protocol.md` §3). Empty, the default, for none.
    public var environment: String = ""
    /// What the node does for others. ``Role/peer`` by default.
    public var role = Role.peer
    /// A link without the peer's handshake after this is closed. 10 s.
    public var handshakeTimeout: Duration = .seconds(10)
    /// After writing nothing on a link for this, it sends PING. 5 s.
    public var pingInterval: Duration = .seconds(5)
    /// A link on which nothing came for this is closed. 100 s.
    public var silenceTimeout: Duration = .seconds(100)
    /// A link that could not write for this is closed. 10 s.
    public var stalledWriteTimeout: Duration = .seconds(10)
    /// An accepted dial whose dialer does not confirm it is given up after this. 10 s.
    public var openTimeout: Duration = .seconds(10)
    /// A closed stream whose last bytes the peer does not take is failed after no progress for this. 10 minutes.
    public var lingerTimeout: Duration = .seconds(600)
    /// How long an offer may take to answer a dial before the next one is tried, where there is another. 2 s.
    public var answerTimeout: Duration = .seconds(2)
    /// How many links there may be; the newest is refused beyond it. 65,536.
    public var maximumLinks = 65_536
    /// How many streams one link may have; the newest dial is refused beyond it, the peer's and this node's own. 1,048,576.
    public var maximumStreamsPerLink = 1 << 20
    /// How many accepted dials of one link may wait for their dialer. 65,536.
    public var maximumHalfOpenPerLink = 65_536
    /// How many services one link may bring; the newest is ignored beyond it. A name takes one place for each 128 bytes begun.
    /// 262,144.
    public var maximumServicesPerLink = 1 << 18
    /// How many accepted streams may wait for one listener's `nextStream`. 16,384.
    public var maximumBacklog = 16_384
    /// How many bytes one link may make this node hold: received and not read yet, or to be forwarded. A stream that would
    /// go beyond it fails. 256 MiB.
    public var maximumBufferedPerLink = 256 << 20
    /// How many bytes all links together may make this node hold. 1 GiB.
    public var maximumBuffered = 1 << 30
    /// How far one stream's window may grow where both ends are nodes of this library. 4 MiB; 64 KiB for not at all.
    public var maximumWindow = 4 << 20
    /// The longest service name that is believed, in bytes. 1,024.
    public var maximumServiceName = 1_024

    public init() {}

    public init(environment: String) {
        self.environment = environment
    }

    /// What a node does for others, as in Go.
    public enum Role: String, Sendable, CaseIterable {
        /// Dials what others offer; its own services are announced to nobody, and nobody is told where it listens.
        case client
        /// Offers services and dials those of others, over the links it was told to join and those that others make.
        case server
        /// A server that also makes links of its own to hosts it hears of through a router. Go's default.
        case peer
        /// A peer that also passes on what its direct peers offer, and streams between them.
        case router

        /// Whether others hear of its services and addresses.
        var announces: Bool { self != .client }
        /// Whether it makes direct links to hosts behind routers.
        var joinsOthers: Bool { self != .server }
    }

    var link: KeepAlive.Limits {
        KeepAlive.Limits(
            handshake: handshakeTimeout.nanoseconds, idleWrite: pingInterval.nanoseconds,
            silence: silenceTimeout.nanoseconds, stalledWrite: stalledWriteTimeout.nanoseconds)
    }

    var streams: StreamLimits {
        StreamLimits(
            openNanoseconds: openTimeout.nanoseconds, lingerNanoseconds: lingerTimeout.nanoseconds)
    }

    /// A name as it travels: with the environment's suffix.
    func fullName(_ name: String) -> String { name + environmentSuffix }

    /// What each service name of this environment ends in.
    var environmentSuffix: String { environment.isEmpty ? "" : ".\(environment)" }
}

/// For how long a link's streams are waited for.
struct StreamLimits: Sendable {
    var openNanoseconds: UInt64
    var lingerNanoseconds: UInt64
}

extension Duration {
    /// In nanoseconds, at least 0 and at most what fits.
    var nanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0 else { return 0 }
        let (whole, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        return overflow ? .max : whole + UInt64(attoseconds / 1_000_000_000)
    }
}
