import AstraNet
import NIOCore

/// Gives the peer of each connection the same credentials, without a proof.
struct StubSecurity: LinkSecurity {
    let credentials: PeerCredentials
    var requiresSecurity = true
    /// Whether it secures direct links too.
    var securesDirectLinks = false

    init(uri: String) { credentials = PeerCredentials(uris: [uri]) }

    var forDirectLinks: (any LinkSecurity)? { securesDirectLinks ? self : nil }

    func addHandlers(to channel: any Channel) throws {
        try channel.pipeline.syncOperations.addHandler(Prover(credentials))
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

extension AccessRules {
    /// Each identity has the URI `test:NAME`.
    static func testing(_ names: [String], announce: [String: Set<String>] = [:], relay: Set<String> = []) -> Self {
        AccessRules(
            identities: names.map { Identity(name: $0, matchers: [Matcher(uri: "test:\($0)")]) },
            announce: announce.map { Announce(pattern: $0.key, names: $0.value) }, relay: relay)
    }
}
