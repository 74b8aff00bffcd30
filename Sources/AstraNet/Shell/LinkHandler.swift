internal import DequeModule
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
    var state: LinkState
    /// What has come of an op whose rest has not.
    private var decoder = ByteBuffer()
    /// How many bytes of it the link's budget holds.
    private var countedRest = 0
    var streams = StreamTable()
    /// Streams whose tasks and delegates are to be told of events, at the end of the read.
    var toWake = Deque<Outbox.Turn>()
    /// ``wakeAll()`` runs.
    var isWaking = false
    /// The streams that are still to be woken have a turn of their own.
    var isTurnScheduled = false
    /// Streams that could not send because the connection took no more.
    var backlog: [Stream] = []
    /// New streams whose DIAL could not be sent because the connection took no more.
    var opening = Deque<Stream>()
    /// Bytes of control ops written while the connection takes no more.
    var stalledControl = 0
    /// What the full connection held at the last tick.
    private var lastBuffered: Int?
    /// What the peer said about itself.
    private var handshake = Handshake(remoteAddress: "")
    var context: ChannelHandlerContext?
    /// What is free of the memory that this end writes to; `nil` where the peer has not asked for it.
    var space: RingSpace?
    /// How many SHARED were read that the peer was not told of.
    var takenPlaces: UInt32 = 0
    /// How many bytes those were.
    var takenBytes = 0
    /// Ops from other links that could not be sent because the connection took no more.
    var forwardBacklog: Deque<Link.Forwarded> = []
    /// Where ops for other hosts go, as far as this link has asked.
    var routes: [HostID: Link] = [:]
    /// With so many routes those that have gone are looked for.
    var routeSweep = 64
    /// Each DISCOVER is answered with up to sixteen FOLLOWs. A router passes on those of all hosts behind it, which ask once a
    /// minute; who is not answered asks again.
    private var discovers = AnswerAllowance(atOnce: 1_024, perSecond: 32)
    /// The peer was told off in the log for bringing too many services.
    private var hasTooManyServices = false
    /// How much larger than the protocol's the windows of all streams are, in bytes.
    var extraWindow = 0
    /// Another link leads to the same host: this one closes as soon as it has no streams.
    var isRetired = false
    var idleSinceRetired = 0
    private var pingSentAt: UInt64?
    /// How often the round trip is still to be measured at once.
    private var probes = 8
    private var ticks: RepeatedTask?
    /// Completed when the link is up, failed when it goes before that.
    let up: EventLoopPromise<LinkUp>
    private(set) var closeReason: AstraNetError?
    /// The link closes as soon as all that was written to it is out.
    var closesWhenFlushed = false
    /// Nothing runs over the link any more.
    private(set) var hasEnded = false

    init(link: Link, up: EventLoopPromise<LinkUp>) {
        node = link.node
        self.link = link
        self.up = up
        log = node.log
        state = LinkState(
            localHost: node.id, now: link.eventLoop.now.uptimeNanoseconds, limits: node.configuration.link)
    }

    /// The present on the event loop's clock, in nanoseconds.
    var now: UInt64 { link.eventLoop.now.uptimeNanoseconds }

    /// Whether this node and `host` can both do something. What a router passes on is as in Go, whoever is behind it.
    func can(_ ability: Handshake.Ability, with host: HostID) -> Bool {
        host == peer && handshake.abilities.contains(ability)
    }

    /// Of an op between the two ends of the link, and no streams of theirs.
    func header(_ command: Command) -> OpHeader {
        OpHeader(command, to: Address(host: .peer, port: 0), from: node.address(port: 0))
    }

    /// How many bytes one DATA op to `host` may carry.
    func payloadLimit(for host: HostID) -> Int {
        host == peer ? min(handshake.maximumPayload, Op.largePayload) : Op.maximumPayload
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
        let remote = context.remoteAddress?.printed ?? ""
        log[metadataKey: "link"] = "\(remote)"
        link.peerSocketAddress.withLockedValue { $0 = remote }
        guard node.linkBegins(link) else {
            return close(AstraNetError(.limitReached, "this node is closed or has as many links as it may have"))
        }
        let link = link
        ticks = context.eventLoop.scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) { _ in
            link.handler.value?.tick()
        }
        let handshake = Handshake(
            remoteAddress: remote, abilities: Set(Handshake.Ability.allCases), maximumPayload: Op.largePayload)
        var ops = context.channel.allocator.buffer(capacity: 128)
        ops.writeOp(
            Op(
                header: header(.handshake),
                payload: handshake.encoded()))
        send(ops)
        context.flush()
    }

    func channelInactive(context: ChannelHandlerContext) {
        end(closeReason ?? AstraNetError(.linkLost, "the connection to the peer broke"))
        link.handler.value = nil
        self.context = nil
        context.fireChannelInactive()
    }

    /// Ends all that runs over the link, and takes it out of what the node knows.
    func end(_ reason: AstraNetError) {
        guard !hasEnded else { return }
        hasEnded = true
        state.closed()
        ticks?.cancel()
        ticks = nil
        let unsent = link.closeOutbound()
        link.forgetPlaceWaiters()
        toWake.append(contentsOf: unsent.turns)
        let lost = node.linkDown(link, reason: reason)
        for stream in unsent.opening + opening {
            link.giveStreamPlace()
            failLocally(stream, reason)
        }
        opening = []
        for stream in streams.removeAll() { failLocally(stream, reason) }
        wakeAll()
        backlog = []
        for forwarded in unsent.forwarded + forwardBacklog { forwarded.give(by: link) }
        forwardBacklog = []
        routes = [:]
        up.fail(reason)
        node.onLinkDown(link, lost)
        decoder = ByteBuffer()
        countRest()
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        // A connection that was never established has not become inactive either. Why, whoever connects is told.
        if let closeReason {
            up.fail(closeReason)
        } else if !link.isDialled {
            up.fail(AstraNetError(.linkLost, "the connection was not established"))
        }
        link.handler.value = nil
        self.context = nil
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        close(AstraNetError(.linkLost, "the connection to the peer broke: \(error)"))
    }

    /// Ends the link and all that runs over it.
    func close(_ reason: AstraNetError) {
        noteClosing(reason)
        context?.close(promise: nil)
    }

    func noteClosing(_ reason: AstraNetError) {
        guard closeReason == nil else { return }
        closeReason = reason
        log.debug("link closed", metadata: ["reason": "\(reason)"])
    }

    /// A slow connection is not a stalled one: while it is full, what it still holds is compared with the last tick.
    private func noteProgress(now: UInt64) {
        guard let context, !context.channel.isWritable else { return lastBuffered = nil }
        do {
            let buffered = try context.channel.syncOptions?.getOption(.bufferedWritableBytes)
            // What was written meanwhile hides some progress, never makes it up.
            if let buffered, let lastBuffered, buffered < lastBuffered { state.progressed(now: now) }
            lastBuffered = buffered
        } catch {
            // A connection that cannot tell is judged by whether it can be written to alone.
            lastBuffered = nil
        }
    }

    private func tick() {
        let now = now
        noteProgress(now: now)
        switch state.tick(now: now) {
        case .doNothing: break
        case .close(let reason): close(reason)
        case .sendPing: sendPing()
        }
        if isRetired { closeIfUnused() }
        for (stream, error) in streams.takeOverdue(now: now, limits: node.configuration.streams) {
            tellFailure(of: stream, error.message)
            forget(stream, error)
        }
        wakeAll()
        // Last: what is sent may begin waits that are later than this tick's time.
        link.flushIfPatienceIsOver()
    }

    private func sendPing() {
        pingSentAt = now
        link.sendControl { $0.writeOp(self.header(.ping)) }
    }

    /// What the first PING took was spent on beginning: threads and memory that were cold. A round trip thought to be ten times as
    /// long makes windows ten times as large (``WindowTuning``), and bytes that wait in the connection hold up everybody's.
    private func probeAgain() {
        guard probes > 0, handshake.abilities.contains(.window) else { return }
        probes -= 1
        sendPing()
    }

    // MARK: - Reading

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        state.received(now: now)
        link.holdUntilReadEnds()
        do {
            if decoder.readableBytes > 0 {
                guard try joinCutOp(from: &bytes) else { return countRest(isSame: true) }
                var op = ByteBuffer()
                swap(&op, &decoder)
                try takeOps(from: &op)
            }
            try takeOps(from: &bytes)
        } catch {
            log.warning("peer broke the protocol", metadata: ["error": "\(error)"])
            close(error)
        }
        tellTaken()
        // Nobody would give back what is counted of a link that is gone.
        guard closeReason == nil else { return }
        if bytes.readableBytes > 0 {
            // A copy, so that the few bytes of a split op do not pin the whole read.
            decoder = context.channel.allocator.buffer(capacity: bytes.readableBytes)
            decoder.writeImmutableBuffer(bytes)
        }
        countRest()
    }

    /// Before its handshake the peer cannot know of more than Go's limit.
    private var payloadLimit: Int { peer == nil ? Op.maximumPayload : Op.largePayload }

    /// Moves what is missing of the op that is cut, and no more than that: what is behind it can be taken where it lies.
    ///
    /// - Returns: whether it is whole.
    private func joinCutOp(from bytes: inout ByteBuffer) throws(AstraNetError) -> Bool {
        while true {
            let missing = try decoder.missingOfOp(maximumPayload: payloadLimit)
            guard missing > 0 else { return true }
            guard let part = bytes.readSlice(length: min(missing, bytes.readableBytes)), part.readableBytes > 0 else {
                return false
            }
            decoder.writeImmutableBuffer(part)
        }
    }

    /// Takes all ops that are whole.
    private func takeOps(from bytes: inout ByteBuffer) throws(AstraNetError) {
        // Slices are taken from this one: of what is behind the reader index there are none.
        let whole = bytes
        var run = ForwardRun()
        defer { finish(&run, of: whole) }
        while closeReason == nil {
            let start = bytes.readerIndex
            guard let op = try bytes.readOp(maximumPayload: payloadLimit) else { break }
            if peer != nil, op.header.destination.host != .peer, op.header.destination.host != node.id {
                forward(op, from: start, to: bytes.readerIndex, of: whole, &run)
            } else {
                take(op)
            }
        }
    }

    /// Once for each read: what is left of it counts as what peers make this node hold.
    ///
    /// - Parameter isSame: whether it is of the op of which something was left before.
    private func countRest(isSame: Bool = false) {
        let more = decoder.readableBytes - countedRest
        guard more != 0 || countedRest > 0 else { return }
        link.halfOp.become(decoder.readableBytes, now: now, isSame: isSame)
        if more < 0 {
            link.buffered.give(-more)
        } else if !link.buffered.takeReceived(more) {
            guard node.makeRoom(forHalfOpOf: link) else {
                decoder = ByteBuffer()
                close(NodeCore.tooManyHalfOps)
                return countRest()
            }
            link.buffered.takeAnyway(more)
        }
        countedRest = decoder.readableBytes
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        wakeAll()
        // What was woken here says what it has to say now, and it leaves with the rest.
        node.executor.runWaiting(on: link.tasks)
        flush()
        context.fireChannelReadComplete()
    }

    private func take(_ op: Op) {
        guard let peer else {
            // Ops before the other's HANDSHAKE are dropped (protocol section 2).
            if op.header.command == .handshake { takeHandshake(op) }
            return
        }
        switch op.header.command {
        case .handshake:
            break
        case .pong:
            if let pingSentAt {
                // The shortest: what is longer waited for something else.
                let known = link.roundTrip.load(ordering: .relaxed)
                let last = max(1, now - pingSentAt)
                if known == 0 || last < known {
                    link.roundTrip.store(last, ordering: .relaxed)
                    node.watchers.changed()
                }
            }
            pingSentAt = nil
            probeAgain()
        case .discover:
            if discovers.take(now: now) { node.answerDiscover(from: op.header.source.host, over: link) }
        case .follow:
            node.followed(op.header.source.host, to: String(buffer: op.payload.prefix(300)), over: link)
        case .ping:
            link.sendControl { $0.writeOp(OpHeader(.pong, to: op.header.source, from: op.header.destination)) }
        case .service, .noService:
            takeService(op, peer: peer)
        case .dial:
            takeDial(op)
        case .reads, .shared, .taken:
            // From elsewhere than the other end they are as any op that nobody knows.
            if op.header.source.host == peer { takeSharing(op) }
        case .rst:
            let lost = AstraNetError(.linkLost, "the route to \(op.header.source.host) broke")
            for stream in streams.all(of: op.header.source.host) { forget(stream, lost) }
            node.routeLost(to: op.header.source.host, over: link)
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
                self.handshake = handshake
                link.direct.withLockedValue { $0 = (peer, handshake.abilities) }
                guard let result = node.linkUp(link, peer: peer, seenAt: handshake.remoteAddress) else {
                    return close(AstraNetError(.closed, "the node is closed"))
                }
                up.succeed(LinkUp(link: link, peer: peer, isRetired: result == .retire(link.id)))
                sendPing()
                askForSharing()
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
            if !node.add(offer, from: link, isTold: op.header.destination.host == node.id && offer.isRelayed),
                !hasTooManyServices
            {
                hasTooManyServices = true
                log.warning(
                    "too many services on one link, the newest are ignored", metadata: ["service": "\(offer.name)"])
            }
        } else {
            node.remove(offer, from: link)
        }
    }
}
