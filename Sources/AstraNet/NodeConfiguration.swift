/// The configuration of a ``Node``. The defaults are those of the Go implementation where Go has the same setting.
public struct NodeConfiguration: Sendable {
    /// The environment, e.g. `staging`. The node appends `.staging` to each service name that it binds or looks up
    /// (`docs/protocol.md` §3). Empty, the default, for none.
    public var environment: String = ""
    /// The name of the node for people: 1 to 63 ASCII letters, digits, `-`, `_` and `.`. Peers learn it
    /// (`docs/protocol.md` §2). `nil`, the default, for none.
    public var name: String?
    /// The role of the node in the mesh. Default: ``Role/peer``.
    public var role = Role.peer
    /// The node closes a link if the peer's handshake does not arrive within this time. Default: 10 s.
    public var handshakeTimeout: Duration = .seconds(10)
    /// The node sends PING on a link after it has written nothing for this time. Default: 5 s.
    public var pingInterval: Duration = .seconds(5)
    /// The node closes a link on which nothing has arrived for this time. Default: 100 s.
    public var silenceTimeout: Duration = .seconds(100)
    /// The node closes a link on which a write made no progress for this time. Default: 10 s.
    public var stalledWriteTimeout: Duration = .seconds(10)
    /// The node gives up an accepted dial if the dialer does not confirm it within this time. Default: 10 s.
    public var openTimeout: Duration = .seconds(10)
    /// The node fails a closed stream whose remaining bytes the peer does not take, after this time without progress.
    /// Default: 10 minutes.
    public var lingerTimeout: Duration = .seconds(600)
    /// The maximum time to wait for one offer to answer a dial before the next offer is tried. Applies only while there
    /// is another offer. Default: 2 s.
    public var answerTimeout: Duration = .seconds(2)
    /// The maximum number of links. The node refuses further connections. Default: 65,536.
    public var maximumLinks = 65_536
    /// The maximum number of streams of one link. Further dials are refused, both those of the peer and those of this
    /// node. Default: 1,048,576.
    public var maximumStreamsPerLink = 1 << 20
    /// The maximum number of accepted dials of one link that the dialer has not confirmed yet. Default: 65,536.
    public var maximumHalfOpenPerLink = 65_536
    /// The maximum number of services that one link may announce. Further announcements are ignored. A name counts once
    /// for each 128 bytes or part of them. Default: 262,144.
    public var maximumServicesPerLink = 1 << 18
    /// The maximum number of accepted streams of one listener that wait for `nextStream`. Default: 16,384.
    public var maximumBacklog = 16_384
    /// The maximum number of bytes that one link may make this node buffer: received and not read yet, or to be
    /// forwarded. A stream that exceeds it fails. Default: 256 MiB.
    public var maximumBufferedPerLink = 256 << 20
    /// The maximum number of bytes that all links together may make this node buffer. Default: 1 GiB.
    public var maximumBuffered = 1 << 30
    /// The maximum number of bytes that one link reads in a second. A second's worth may arrive at once. `nil`, the
    /// default, for no limit.
    public var maximumBytesPerSecond: Int?
    /// The maximum size of a stream's window. Windows grow only between nodes of this library. Default: 4 MiB; 64 KiB
    /// means that windows do not grow.
    public var maximumWindow = 4 << 20
    /// The maximum length of a service name that the node accepts, in bytes. Default: 1,024.
    public var maximumServiceName = 1_024

    public init() {}

    public init(environment: String) {
        self.environment = environment
    }

    /// The role of a node in the mesh. The roles are those of the Go implementation.
    public enum Role: String, Sendable, CaseIterable {
        /// Dials services of other nodes. Announces neither its services nor its addresses.
        case client
        /// Offers services and dials services of other nodes. Uses the links that it joins and those that it accepts.
        case server
        /// A server that also makes direct links to hosts behind a router. The default in Go.
        case peer
        /// A peer that also forwards announcements and streams between its direct peers.
        case router

        /// Whether the node announces its services and addresses.
        var announces: Bool { self != .client }
        /// Whether the node makes direct links to hosts behind routers.
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

    /// Returns the name as it is announced on the mesh: with the suffix of the environment.
    func fullName(_ name: String) -> String { name + environmentSuffix }

    /// The suffix of all service names of this environment; may be empty.
    var environmentSuffix: String { environment.isEmpty ? "" : ".\(environment)" }
}

/// Timeouts of the streams of a link.
struct StreamLimits: Sendable {
    var openNanoseconds: UInt64
    var lingerNanoseconds: UInt64
}

extension Duration {
    /// The duration in nanoseconds: 0 if it is negative, `UInt64.max` if it does not fit.
    var nanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0 else { return 0 }
        let (whole, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        return overflow ? .max : whole + UInt64(attoseconds / 1_000_000_000)
    }
}
