public import NIOCore

/// Secures the connections of a listener or of a joined address. `AstraNetTLS` has the implementation for TLS.
public protocol LinkSecurity: Sendable {
    /// Adds handlers to a new connection. The link's own handler is added behind them. Called on the event loop of the
    /// channel, before the first read.
    ///
    /// The handlers fire ``PeerCredentials`` as a user inbound event once the peer is verified, and ``AstraNetError``
    /// with code `insecure` as an error before they close a connection that is not secured. They hold back bytes of the
    /// link until then.
    ///
    /// - Parameter channel: the new connection.
    func addHandlers(to channel: any Channel) throws

    /// Whether a listener with this security refuses connections without it.
    var requiresSecurity: Bool { get }

    /// The security of direct links to other addresses that hosts behind the peer have told this node; `nil` if this
    /// node does not dial with it.
    var forDirectLinks: (any LinkSecurity)? { get }
}
