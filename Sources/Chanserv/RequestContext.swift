/// The properties of a request that the client and the connection state, besides its body.
///
/// All but ``peerAddress`` and ``identity`` come from the client and are not verified.
public struct RequestContext: Sendable, Hashable {
    /// The time at which the client gives up; `nil` for no deadline.
    public var deadline: ContinuousClock.Instant?
    /// The tag `meta`: free text about the request; `nil` if the client set none.
    public var meta: String?
    /// The tag `bucket`, by which the client chose among several offers of a name; `nil` if the client set none.
    public var bucket: String?
    /// The `traceparent` of W3C Trace Context; `nil` if the client sent none.
    public var traceParent: String?
    /// `ip:port` of the peer on the link on which the request arrived. The peer is the client or a router. Empty if the
    /// network has no such addresses.
    public var peerAddress: String
    /// Whether the client understands the error of a failed connection. A Go client sees only its end.
    package var readsErrors = true
    /// The verified name of the client: a URI or DNS name of its certificate, `sha256:` and the fingerprint of its key,
    /// or `uid:` and the user ID at a Unix socket. Empty if none was proved.
    public var identity: String

    /// Creates a context. The default of each property is its value for a request that does not state it.
    public init(
        deadline: ContinuousClock.Instant? = nil, meta: String? = nil, bucket: String? = nil,
        traceParent: String? = nil, peerAddress: String = "", identity: String = ""
    ) {
        self.deadline = deadline
        self.meta = meta
        self.bucket = bucket
        self.traceParent = traceParent
        self.peerAddress = peerAddress
        self.identity = identity
    }
}

extension RequestContext {
    /// ``peerAddress``; `nil` if the network has none.
    var knownPeerAddress: String? { peerAddress.isEmpty ? nil : peerAddress }
}
