internal import Logging
internal import NIOCore

/// The event loop's side of a link: reads ops, keeps the streams, and sends what they and other threads want sent.
///
/// Lives on one event loop and is never touched from elsewhere; other threads speak to it through ``Link``.
final class LinkHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    let node: NodeCore
    let link: Link
    var log: Logger
    private(set) var state: LinkState
    private var decoder = ByteBuffer()
    var streams = StreamTable()
    /// Streams whose waiters must be told at the end of the read.
    private var toWake: [Stream] = []
    /// Streams that could not send because the connection took no more.
    private var backlog: [Stream] = []
    var abilities: Set<Handshake.Ability> = []
    private var context: ChannelHandlerContext?
    private var ticks: RepeatedTask?
    /// Completed when the link is up, failed when it goes before that.
    let up: EventLoopPromise<HostID>
    private var closeReason: AstraNetError?
    /// The link closes as soon as all that was written to it is out.
    private var closesWhenFlushed = false

    init(node: NodeCore, link: Link, up: EventLoopPromise<HostID>) {
        self.node = node
        self.link = link
        self.up = up
        log = node.log
        state = LinkState(localHost: node.id, now: NIODeadline.now().uptimeNanoseconds, limits: node.configuration.link)
    }

    /// The peer's identity once the handshake has told it.
    var peer: HostID? {
        guard case .up(let peer) = state.phase else { return nil }
        return peer
    }

    // MARK: - Life

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        link.handler.value = self
        if context.channel.isActive { start() }
    }

    func channelActive(context: ChannelHandlerContext) {
        start()
        context.fireChannelActive()
    }

    private func start() {
        guard ticks == nil, let context else { return }
        let remote = context.remoteAddress.map(Self.printed) ?? ""
        log[metadataKey: "link"] = "\(remote)"
        let link = link
        ticks = context.eventLoop.scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) { _ in
            link.handler.value?.tick()
        }
        let handshake = Handshake(remoteAddress: remote, abilities: Set(Handshake.Ability.allCases))
        var ops = context.channel.allocator.buffer(capacity: 128)
        ops.writeOp(
            Op(
                header: OpHeader(.handshake, to: Address(host: .peer, port: 0), from: node.address(port: 0)),
                payload: handshake.encoded()))
        send(ops)
        context.flush()
    }

    /// `ip:port` as Go prints it.
    private static func printed(_ address: SocketAddress) -> String {
        guard let ip = address.ipAddress, let port = address.port else { return "" }
        return ip.contains(":") ? "[\(ip)]:\(port)" : "\(ip):\(port)"
    }

    func channelInactive(context: ChannelHandlerContext) {
        let reason = closeReason ?? AstraNetError(.linkLost, "the connection to the peer broke")
        state.closed()
        ticks?.cancel()
        ticks = nil
        let unsent = link.closeOutbound()
        node.linkDown(link, reason: reason)
        for stream in unsent.opening { failLocally(stream, reason) }
        for stream in streams.removeAll() { failLocally(stream, reason) }
        wakeAll()
        backlog = []
        up.fail(reason)
        link.handler.value = nil
        self.context = nil
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        close(AstraNetError(.linkLost, "the connection to the peer broke: \(error)"))
    }

    /// Ends the link and all that runs over it.
    func close(_ reason: AstraNetError) {
        guard closeReason == nil else { return }
        closeReason = reason
        log.debug("link closed", metadata: ["reason": "\(reason)"])
        context?.close(promise: nil)
    }

    /// Closes the link once all that was written to closed streams is out, at the latest at the deadline.
    func closeWhenFlushed(deadline: NIODeadline) {
        guard let context, closeReason == nil, !closesWhenFlushed else { return }
        closesWhenFlushed = true
        let link = link
        context.eventLoop.scheduleTask(deadline: deadline) {
            link.handler.value?.close(AstraNetError(.closed, "the node is closed"))
        }
        flush()
    }

    private func closeIfFlushed() {
        guard closesWhenFlushed, closeReason == nil, backlog.isEmpty, !streams.hasLingering, link.isOutboundEmpty else {
            return
        }
        closesWhenFlushed = false
        let link = link
        // Its promise comes after all that was written before it.
        context?.writeAndFlush(wrapOutboundOut(ByteBuffer())).whenComplete { _ in
            link.handler.value?.close(AstraNetError(.closed, "the node is closed"))
        }
    }

    private func tick() {
        let now = NIODeadline.now().uptimeNanoseconds
        switch state.tick(now: now) {
        case .doNothing: break
        case .close(let reason): close(reason)
        case .sendPing:
            link.sendControl {
                $0.writeOp(OpHeader(.ping, to: Address(host: .peer, port: 0), from: self.node.address(port: 0)))
            }
        }
        for (stream, error) in streams.takeOverdue(now: now, limits: node.configuration.streams) {
            tellFailure(of: stream, error.message)
            forget(stream, error)
        }
        wakeAll()
    }

    // MARK: - Reading

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        if decoder.readableBytes > 0 {
            decoder.writeImmutableBuffer(bytes)
            swap(&decoder, &bytes)
            decoder = ByteBuffer()
        }
        state.received(now: NIODeadline.now().uptimeNanoseconds)
        do {
            while closeReason == nil, let op = try bytes.readOp() { take(op) }
        } catch {
            log.warning("peer broke the protocol", metadata: ["error": "\(error)"])
            close(error)
        }
        if bytes.readableBytes > 0 {
            // A copy, so that the few bytes of a split op do not pin the whole read.
            decoder = context.channel.allocator.buffer(capacity: bytes.readableBytes)
            decoder.writeImmutableBuffer(bytes)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        wakeAll()
        flush()
        context.fireChannelReadComplete()
    }

    private func take(_ op: Op) {
        guard let peer else {
            // Ops before the other's HANDSHAKE are dropped (protocol section 2).
            if op.header.command == .handshake { takeHandshake(op) }
            return
        }
        // Only routers forward.
        guard op.header.destination.host == .peer || op.header.destination.host == node.id else { return }
        switch op.header.command {
        case .handshake, .pong, .follow, .discover:
            break
        case .ping:
            link.sendControl { $0.writeOp(OpHeader(.pong, to: op.header.source, from: op.header.destination)) }
        case .service, .noService:
            takeService(op, peer: peer)
        case .dial:
            takeDial(op)
        case .rst:
            let lost = AstraNetError(.linkLost, "the route to \(op.header.source.host) broke")
            for stream in streams.all(of: op.header.source.host) { forget(stream, lost) }
            node.registryLost(host: op.header.source.host, on: link)
        default:
            takeStreamOp(op)
        }
    }

    private func takeHandshake(_ op: Op) {
        do {
            let handshake = try Handshake(decoding: op.payload)
            switch state.receivedHandshake(from: op.header.source.host) {
            case .doNothing: break
            case .close(let reason): close(reason)
            case .linkUp(let peer):
                log[metadataKey: "peer"] = "\(peer)"
                abilities = handshake.abilities
                guard node.linkUp(link, peer: peer) else {
                    return close(AstraNetError(.limitReached, "this node has as many links as it may have"))
                }
                up.succeed(peer)
            }
        } catch {
            close(error)
        }
    }

    private func takeService(_ op: Op, peer: HostID) {
        guard op.payload.readableBytes > 0, op.payload.readableBytes <= node.configuration.maximumServiceName else {
            return
        }
        let offer = ServiceOffer(
            name: String(buffer: op.payload), address: op.header.source, isRelayed: op.header.source.host != peer)
        if op.header.command == .service {
            if !node.add(offer, from: link) {
                log.warning(
                    "too many services on one link, the newest is ignored", metadata: ["service": "\(offer.name)"])
            }
        } else {
            node.remove(offer, from: link)
        }
    }

    // MARK: - Streams

    private func takeDial(_ op: Op) {
        let local = node.address(port: op.header.destination.port)
        let key = StreamTable.Key(remote: op.header.source, localPort: local.port)
        guard streams[key] == nil else { return }
        let limits = node.configuration.streams
        guard streams.count < limits.perLink, streams.halfOpenCount < limits.halfOpen, node.isListening(on: local.port)
        else {
            if abilities.contains(.refuse) {
                link.sendControl {
                    $0.writeOp(OpHeader(.err, to: op.header.source, from: local), text: "nobody listens on \(local)")
                }
            }
            return
        }
        let stream = Stream(state: .listener(), local: local, remote: op.header.source, link: link)
        streams.insert(stream, halfOpenSince: NIODeadline.now().uptimeNanoseconds)
        link.sendControl { $0.writeOp(OpHeader(.syn, to: op.header.source, from: local)) }
    }

    private func takeStreamOp(_ op: Op) {
        let key = StreamTable.Key(remote: op.header.source, localPort: op.header.destination.port)
        // Ops that come late, for a stream that has ended, are nobody's.
        guard let stream = streams[key] else { return }
        var queueWake = false
        var queueFlush = false
        var failure: AstraNetError?
        var accept = false
        var isForgotten = false
        var reply: Command?
        stream.withStorage { storage in
            func take(_ action: StreamState.PeerEndAction) {
                guard action != .doNothing else { return }
                isForgotten = action == .forget
                if storage.state.queued == 0 { storage.outbox.removeAll() }
                queueWake = storage.queueWake()
                queueFlush = storage.markDirty()
            }
            func take(_ action: StreamState.ReceivedCreditAction) {
                switch action {
                case .doNothing: break
                case .resumeSending: queueFlush = storage.sendingIsDue()
                case .failStream(let error): failure = error
                }
            }
            switch op.header.command {
            case .data where op.payload.readableBytes > 0:
                switch storage.state.receivedData(op.payload.readableBytes) {
                case .drop: break
                case .failStream(let error): failure = error
                case .deliver:
                    storage.inbox.writeImmutableBuffer(op.payload)
                    if storage.reader != nil { queueWake = storage.queueWake() }
                }
            case .rewind:
                guard let count = op.payload.number else { break }
                take(storage.state.receivedRewind(count))
            case .windowSize:
                guard let size = op.payload.number else { break }
                take(storage.state.receivedWindowSize(size))
            case .syn:
                if storage.state.receivedSyn() == .sendAck {
                    reply = .ack
                    queueWake = storage.queueWake()
                    queueFlush = storage.sendingIsDue()
                }
            case .ack:
                if storage.state.receivedAck() == .sendSynAckAndAccept {
                    reply = .synAck
                    accept = true
                    queueFlush = storage.sendingIsDue()
                }
            case .fin1: take(storage.state.receivedFin1())
            case .fin2: take(storage.state.receivedFin2())
            case .err:
                let code: AstraNetError.Code = storage.state.phase == .dialing ? .refused : .failedByPeer
                failure = AstraNetError(code, String(buffer: op.payload.prefix(1_024)))
            case .forceClosed:
                failure = AstraNetError(.failedByPeer, "the peer closed the stream by force")
            default: break
            }
        }
        if isForgotten { streams.remove(stream) }
        if let reply {
            link.sendControl { $0.writeOp(OpHeader(reply, to: stream.remoteAddress, from: stream.localAddress)) }
        }
        if accept {
            streams.opened(stream)
            if !node.accept(stream) { stream.fail("nobody listens on \(stream.localAddress)") }
        }
        if let failure {
            if failure.code == .protocolViolation {
                log.warning("peer broke a stream's rules", metadata: ["error": "\(failure)"])
                tellFailure(of: stream, failure.message)
            }
            forget(stream, failure)
        }
        if queueWake { toWake.append(stream) }
        if queueFlush { link.markDirty(stream) }
    }

    /// The stream is over on this side of the link; its waiters are told at the end of the read.
    private func forget(_ stream: Stream, _ error: AstraNetError) {
        streams.remove(stream)
        failLocally(stream, error)
    }

    private func failLocally(_ stream: Stream, _ error: AstraNetError) {
        let queueWake = stream.withStorage { storage -> Bool in
            guard storage.state.fail(error) != .doNothing else { return false }
            storage.outbox.removeAll()
            return storage.queueWake()
        }
        if queueWake { toWake.append(stream) }
    }

    private func tellFailure(of stream: Stream, _ message: String) {
        link.sendControl { $0.writeFailure(message, to: stream.remoteAddress, from: stream.localAddress) }
    }

    private func wakeAll() {
        // Waking runs other code only in other tasks, except for onPeerGone's, which may queue more.
        while !toWake.isEmpty {
            var streams: [Stream] = []
            swap(&streams, &toWake)
            for stream in streams { stream.wake() }
        }
    }

    // MARK: - Writing

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable {
            state.unstalled()
            stalledControl = 0
            flush()
        } else {
            state.wrote(now: NIODeadline.now().uptimeNanoseconds, isStalled: true)
        }
        context.fireChannelWritabilityChanged()
    }

    /// Sends what there is: control ops, then bytes of the dirty streams in turn, up to what the connection takes.
    func flush() {
        guard let context else { return }
        var packer = OpPacker(allocator: context.channel.allocator) { self.send($0) }
        let outbound = link.takeOutbound()
        packer.write(outbound.control)
        for stream in outbound.opening {
            streams.insert(stream, halfOpenSince: nil)
            packer.write(OpHeader(.dial, to: stream.remoteAddress, from: stream.localAddress))
        }
        backlog += outbound.dirty
        guard context.channel.isWritable else {
            packer.finish()
            context.flush()
            guardControl(packer.written)
            return
        }
        var next = 0
        while next < backlog.count, packer.written < Self.bytesPerRound {
            let stream = backlog[next]
            next += 1
            switch drain(stream, into: &packer) {
            case .idle: break
            case .more: backlog.append(stream)
            case .ended: streams.remove(stream)
            }
        }
        backlog.removeFirst(next)
        packer.finish()
        if packer.written > 0 {
            context.flush()
            state.wrote(now: NIODeadline.now().uptimeNanoseconds, isStalled: !context.channel.isWritable)
        }
        wakeAll()
        closeIfFlushed()
        if !backlog.isEmpty, context.channel.isWritable {
            let link = link
            context.eventLoop.execute { link.handler.value?.flush() }
        }
    }

    /// At most so much goes to the connection before it is asked again whether it takes more.
    private static let bytesPerRound = 1 << 20
    /// So much unsent control data means a peer that asks and does not read.
    private static let controlLimit = 4 << 20
    private var stalledControl = 0

    /// Answers to a peer that reads nothing must not pile up without end.
    private func guardControl(_ written: Int) {
        stalledControl += written
        if stalledControl > Self.controlLimit {
            close(AstraNetError(.limitReached, "the peer does not read the answers to its ops"))
        }
    }

    private enum Drained { case idle, more, ended }

    /// Sends a stream's credit, up to 64 KiB of its bytes, and its ending when all bytes are gone.
    private func drain(_ stream: Stream, into packer: inout OpPacker) -> Drained {
        var wakes = false
        var lingers = false
        let result = stream.withStorage { storage -> Drained in
            storage.isDirty = false
            let credit = storage.state.takeCredit()
            if credit > 0 {
                packer.write(OpHeader(.rewind, to: stream.remoteAddress, from: stream.localAddress), number: credit)
            }
            var left = min(storage.state.sendable, Op.maximumPayload)
            while left > 0 {
                let size = min(left, storage.outbox[0].readableBytes)
                packer.write(
                    OpHeader(.data, to: stream.remoteAddress, from: stream.localAddress),
                    payload: storage.outbox[0].readSlice(length: size)!)
                if storage.outbox[0].readableBytes == 0 { storage.outbox.removeFirst() }
                storage.state.sent(size)
                left -= size
            }
            wakes = storage.writer != nil && storage.queueWake()
            switch storage.state.takeEnding() {
            case .wait:
                lingers = storage.state.isLingering
                return storage.state.sendable > 0 && storage.markDirty() ? .more : .idle
            case .sendFin2:
                packer.write(OpHeader(.fin2, to: stream.remoteAddress, from: stream.localAddress))
                return .idle
            case .sendFin1AndFin2AndForget:
                packer.write(OpHeader(.fin1, to: stream.remoteAddress, from: stream.localAddress))
                packer.write(OpHeader(.fin2, to: stream.remoteAddress, from: stream.localAddress))
                return .ended
            case .sendErrAndForget(let message):
                var ops = ByteBuffer()
                ops.writeFailure(message, to: stream.remoteAddress, from: stream.localAddress)
                packer.write(ops)
                return .ended
            }
        }
        if wakes { toWake.append(stream) }
        if lingers {
            streams.lingers(stream, since: NIODeadline.now().uptimeNanoseconds)
        }
        return result
    }

    private func send(_ bytes: ByteBuffer) {
        context?.write(wrapOutboundOut(bytes), promise: nil)
    }
}

extension Stream.Storage {
    /// Puts the stream on the list of those to wake; whether the caller must do it.
    mutating func queueWake() -> Bool {
        guard !isWakeQueued else { return false }
        isWakeQueued = true
        return true
    }
}

extension ByteBuffer {
    /// The number that is the payload of REWIND and WND_SIZE; `nil` where it is something else.
    var number: UInt32? { readableBytes == 4 ? getInteger(at: readerIndex) : nil }

    /// The first `length` bytes, or all where there are fewer.
    func prefix(_ length: Int) -> ByteBuffer {
        getSlice(at: readerIndex, length: min(length, readableBytes))!
    }

    /// ERR with a message, then FIN1 and FIN2: a Go peer does not end a read at ERR.
    mutating func writeFailure(_ message: String, to remote: Address, from local: Address) {
        writeOp(OpHeader(.err, to: remote, from: local), text: message)
        writeOp(OpHeader(.fin1, to: remote, from: local))
        writeOp(OpHeader(.fin2, to: remote, from: local))
    }
}
