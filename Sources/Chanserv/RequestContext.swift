/// What the client and the connection say about a request, besides its body.
///
/// Everything but ``peerAddress`` and ``identity`` comes from the client and is not verified.
public struct RequestContext: Sendable, Hashable {
    /// When the client gives up; `nil` for no deadline.
    public var deadline: ContinuousClock.Instant?
    /// The tag `meta`: free text about the request; `nil` where the client set none.
    public var meta: String?
    /// The tag `bucket`, by which the client chose among several offers of a name; `nil` where the client set none.
    public var bucket: String?
    /// The `traceparent` of W3C Trace Context; `nil` where the client sent none.
    public var traceParent: String?
    /// `ip:port` of the peer on the link that the request came in on: the client, or a router. Empty where the network
    /// has no such addresses.
    public var peerAddress: String
    /// The verified identity of the client. Always empty in this version.
    public var identity: String

    /// Makes a context. The default of each property is what a request without it has.
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
