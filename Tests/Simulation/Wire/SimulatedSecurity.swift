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
        try channel.pipeline.syncOperations.addHandler(
            Prover(PeerCredentials(uris: [GuardPlan.identity(of: endpoint.peerHost)])))
    }

    private final class Prover: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let credentials: PeerCredentials

        init(_ credentials: PeerCredentials) { self.credentials = credentials }

        func channelActive(context: ChannelHandlerContext) {
            context.fireUserInboundEventTriggered(credentials)
            context.fireChannelActive()
        }
    }
}
