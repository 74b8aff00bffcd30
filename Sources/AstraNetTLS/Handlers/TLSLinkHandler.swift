internal import AstraNet
internal import NIOCore
internal import NIOSSL
internal import NIOTLS
internal import X509

/// The handler between NIOSSL and a link.
///
/// It holds the writes of the link until the peer is verified, then fires ``AstraNet/PeerCredentials`` and lets them
/// pass. Before it closes the connection for a failure of TLS, it fires one ``AstraNet/AstraNetError`` with code
/// `insecure`. It stays in the pipeline for alerts of the peer: in TLS 1.3 a server verifies the client after the
/// client has finished its handshake.
final class TLSLinkHandler: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum State {
        /// The handshake is not finished, or the first byte has not arrived.
        case waiting
        /// The peer is verified.
        case open
        /// The error is reported. The connection closes.
        case failed
    }

    /// Maximum number of bytes that are held (64 KiB). The link writes its HANDSHAKE, which has less than 1 KiB.
    private static let maximumHeld = 1 << 16

    private let diagnosis: HandshakeDiagnosis
    /// Whether the peer must present a certificate.
    private let verifies: Bool
    private var state = State.waiting
    /// The address of the peer for messages. A closed connection has no address any more.
    private var peer = "the peer"
    private var held: [(bytes: ByteBuffer, promise: EventLoopPromise<Void>?)] = []
    private var heldSize = 0

    init(_ diagnosis: HandshakeDiagnosis, verifies: Bool) {
        self.diagnosis = diagnosis
        self.verifies = verifies
    }

    // MARK: - Reading

    func handlerAdded(context: ChannelHandlerContext) {
        takeAddress(context)
    }

    func channelActive(context: ChannelHandlerContext) {
        takeAddress(context)
        context.fireChannelActive()
    }

    private func takeAddress(_ context: ChannelHandlerContext) {
        if let address = context.remoteAddress?.printed, !address.isEmpty { peer = address }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .open = state else { return }
        context.fireChannelRead(data)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case TLSUserEvent.handshakeCompleted:
            finishHandshake(context)
        case FirstByteHandler.Decision.plain:
            open(context, PeerCredentials())
            context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
        case FirstByteHandler.Decision.refused:
            fail(context, diagnosis.plainClient(at: peer))
        default:
            context.fireUserInboundEventTriggered(event)
        }
    }

    private func finishHandshake(_ context: ChannelHandlerContext) {
        guard case .waiting = state else { return }
        guard verifies else { return open(context, PeerCredentials()) }
        do throws(HandshakeDiagnosis.Problem) {
            open(context, try diagnosis.credentials(of: peerCertificate(context), at: peer))
        } catch {
            fail(context, error.message)
        }
    }

    private func open(_ context: ChannelHandlerContext, _ credentials: PeerCredentials) {
        state = .open
        context.fireUserInboundEventTriggered(credentials)
        guard !held.isEmpty else { return }
        for (bytes, promise) in held { context.write(wrapOutboundOut(bytes), promise: promise) }
        held = []
        context.flush()
    }

    private func peerCertificate(_ context: ChannelHandlerContext) -> NIOSSLCertificate? {
        do {
            return try context.pipeline.syncOperations.nioSSL_peerCertificate()
        } catch {
            // NIOSSL is not in the pipeline: the connection failed before the first byte.
            return nil
        }
    }

    // MARK: - Failures

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch state {
        case .failed:
            return
        case .waiting, .open:
            switch TLSFailure(error) {
            case .none:
                if case .waiting = state { state = .failed }
                discardHeld(error)
                context.fireErrorCaught(error)
            // A peer that closes the connection without an alert. The ops of a link have lengths, so the link finds out
            // about a cut one itself.
            case .unclean: return
            case .tls(let reason):
                let certificate = peerCertificate(context)
                fail(context, diagnosis.message(for: reason, certificate: certificate, at: peer))
            }
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        discardHeld(ChannelError.ioOnClosedChannel)
        context.fireChannelInactive()
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        discardHeld(ChannelError.ioOnClosedChannel)
    }

    private func fail(_ context: ChannelHandlerContext, _ message: String) {
        state = .failed
        let error = AstraNetError(.insecure, message)
        discardHeld(error)
        context.fireErrorCaught(error)
        context.close(promise: nil)
    }

    private func discardHeld(_ error: any Error) {
        for (_, promise) in held { promise?.fail(error) }
        held = []
    }

    // MARK: - Writing

    /// Large writes are not split. With 1 MiB and with 64 KiB per flush, both ends together took 0.42 s of processor time
    /// per GB, if malloc keeps freed blocks, as it does in `chanserv`.
    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch state {
        case .open:
            context.write(data, promise: promise)
        case .waiting:
            let bytes = unwrapOutboundIn(data)
            heldSize += bytes.readableBytes
            guard heldSize <= Self.maximumHeld else {
                promise?.fail(ChannelError.ioOnClosedChannel)
                return fail(context, "the link wrote more than its HANDSHAKE before the TLS handshake ended")
            }
            held.append((bytes, promise))
        case .failed:
            promise?.fail(ChannelError.ioOnClosedChannel)
        }
    }

    func flush(context: ChannelHandlerContext) {
        if case .open = state { context.flush() }
    }
}
