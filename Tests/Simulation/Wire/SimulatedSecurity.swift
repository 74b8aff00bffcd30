import AstraNet
import NIOCore

/// Proves the identity of the peer of each connection, whoever dialled. The network knows both ends, so Go-like nodes
/// and the adversary have an identity too.
///
/// Addresses with it are announced as those that need TLS, so nodes of this library find direct paths to each other.
struct SimulatedSecurity: LinkSecurity {
    var requiresSecurity: Bool { true }
    var forDirectLinks: (any LinkSecurity)? { self }

    func addHandlers(to channel: any Channel) throws {
        let endpoint = try channel.pipeline.syncOperations.handler(type: ChannelEndpoint.self)
        try channel.pipeline.syncOperations.addHandler(Prover(endpoint.peerHost))
    }

    /// Adds the proof to a connection without security, as a network does that knows the hosts at its addresses. A node
    /// that was joined by its router dials such addresses of Go nodes.
    static func addProof(to channel: any Channel, behind endpoint: ChannelEndpoint) throws {
        let pipeline = channel.pipeline.syncOperations
        if (try? pipeline.handler(type: Prover.self)) != nil { return }
        try pipeline.addHandler(Prover(endpoint.peerHost), position: .after(endpoint))
    }

    private final class Prover: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let credentials: PeerCredentials

        init(_ host: Int) { credentials = PeerCredentials(uris: [GuardPlan.identity(of: host)]) }

        func channelActive(context: ChannelHandlerContext) {
            context.fireUserInboundEventTriggered(credentials)
            context.fireChannelActive()
        }
    }
}
