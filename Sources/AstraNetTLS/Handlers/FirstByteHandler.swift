internal import AstraNet
internal import NIOCore
internal import NIOSSL

/// Decides by the first byte of a client whether the connection uses TLS, then removes itself.
///
/// It tells ``TLSLinkHandler``, which holds the writes of the link until then, about a plain connection. A client that
/// sends nothing is left to the handshake timeout of the link.
final class FirstByteHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    /// The user inbound events for ``TLSLinkHandler``.
    enum Decision {
        /// The connection is plain, and that is allowed.
        case plain
        /// The connection is plain, but TLS is required.
        case refused
    }

    /// The type of a TLS handshake record (RFC 8446 §5.1). No op of a link begins with it.
    private static let handshakeRecord: UInt8 = 0x16

    private let loaded: TLSServer.Loaded

    init(_ loaded: TLSServer.Loaded) {
        self.loaded = loaded
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard let first = unwrapInboundIn(data).readableBytesView.first else { return }
        if first == Self.handshakeRecord {
            do {
                try context.pipeline.syncOperations.addHandler(
                    NIOSSLServerHandler(context: loaded.context), position: .after(self))
            } catch {
                // The channel is closed.
                return context.fireErrorCaught(error)
            }
        } else if loaded.settings.requiresTLS {
            return context.fireUserInboundEventTriggered(Decision.refused)
        } else {
            context.fireUserInboundEventTriggered(Decision.plain)
        }
        context.fireChannelRead(data)
        context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
    }
}
