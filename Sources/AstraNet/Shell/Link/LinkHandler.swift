internal import Logging
package import NIOCore

/// The channel handler of a link: decodes ops, feeds ``LinkMachine`` and performs its actions.
///
/// It is used on one event loop only. Other threads use ``Link``.
///
/// Its variables have no run-time check for overlapping accesses. The check took 6 % of the instructions of a request.
/// Accesses do not overlap:
/// - All of them are made on the event loop.
/// - A mutating method of ``LinkMachine`` calls no code outside the machine.
/// - ``LinkWriter/pack(isWritable:_:)`` changes the machine in place and does not call this handler. Its effects on
///   streams and links reach the handler in a later turn, through `EventLoop.execute`.
/// - NIO may call this handler again inside ``write(to:)``, when a write fails or the connection becomes writable. No
///   variable is being changed at that point.
package final class LinkHandler: ChannelInboundHandler {
    package typealias InboundIn = ByteBuffer
    package typealias OutboundOut = ByteBuffer

    private let node: NodeCore
    private let link: Link
    @exclusivity(unchecked) private var log: Logger {
        didSet { streams.log = log }
    }
    @exclusivity(unchecked) private var machine: LinkMachine
    package let streams: LinkStreams
    private let reader: LinkReader
    private let writer: LinkWriter
    private let forwarder: LinkForwarder
    @exclusivity(unchecked) private var context: ChannelHandlerContext?
    @exclusivity(unchecked) private var ticks: RepeatedTask?
    /// Time from which ``answerTime`` counts, on the event loop's clock in nanoseconds: the start of waking, or the
    /// last flush since then.
    @exclusivity(unchecked) private var answersBegan: UInt64 = 0
    /// The first bytes of the connection, at most ``ForeignBytes/examined``.
    @exclusivity(unchecked) private var firstBytes: [UInt8] = []
    @exclusivity(unchecked) private var hasCheckedFirstBytes = false
    /// What the connection has proved about the peer.
    @exclusivity(unchecked) private var credentials = PeerCredentials()
    /// Offers that the access rules do not allow, and whether each was sent to this node only. A reload may allow them.
    @exclusivity(unchecked) private var withheld: [ServiceOffer: Bool] = [:]
    /// Maximum number of offers in ``withheld``. Further ones are forgotten until the peer connects again.
    private static let maximumWithheld = 1_024
    /// Whether ops of other hosts were dropped because the peer may not send them.
    @exclusivity(unchecked) private var hasDroppedOps = false
    /// The limit of the bytes that are read in a second; `nil` for none.
    @exclusivity(unchecked) private var pace: ReadPace?
    /// The time until which the link does not read, because of ``pace``.
    @exclusivity(unchecked) private var pausedUntil: UInt64 = 0
    /// Promise that succeeds when the link is up and fails if the link ends before that.
    private let up: EventLoopPromise<LinkUp>

    init(link: Link, up: EventLoopPromise<LinkUp>) {
        node = link.node
        self.link = link
        self.up = up
        log = node.log
        machine = LinkMachine(
            localHost: node.id, isDialled: link.isDialled, maximumServiceName: node.configuration.maximumServiceName,
            memory: SharedMemoryLedger(link.memory?.use, size: link.memory?.size ?? 0), now: link.now,
            limits: node.configuration.link)
        streams = LinkStreams(link, log: node.log)
        reader = LinkReader(link)
        writer = LinkWriter(link, streams)
        forwarder = LinkForwarder(link)
        pace = node.configuration.maximumBytesPerSecond.map { ReadPace(bytesPerSecond: $0, now: link.now) }
    }

    /// Reason why the link no longer accepts ops; `nil` while it is open.
    package var closeReason: AstraNetError? { machine.closeReason }

    // MARK: - Actions

    private func perform(_ action: LinkMachine.Action) {
        switch action {
        case .doNothing:
            break
        case .sendHandshake:
            sendHandshake()
        case .announceUp(let peer, let address, let name):
            announceUp(peer, seenAt: address, name)
        case .greet(let sendsReads):
            sendToPeer(.ping)
            if sendsReads { sendToPeer(.reads) }
        case .sendPing:
            sendToPeer(.ping)
        case .sendPong(let remote, let local):
            link.sendControl { $0.writeOp(OpHeader(.pong, to: remote, from: local)) }
        case .notePong(let roundTrip, let sendsPing):
            if let roundTrip {
                link.roundTrip.store(roundTrip, ordering: .relaxed)
                node.watchers.changed()
            }
            if sendsPing { sendToPeer(.ping) }
        case .answerDiscover(let host, let understandsTLS):
            node.answerDiscover(from: host, over: link, understandsTLS: understandsTLS)
        case .follow(let host, let address):
            node.followed(host, to: address, over: link)
        case .addOffer(let offer, let isPrivate):
            add(offer, isPrivate: isPrivate)
        case .removeOffer(let offer):
            withheld[offer] = nil
            node.remove(offer, from: link)
        case .logRefusedOffer(let name):
            log.warning("service ignored: too many services on one link", metadata: ["service": "\(name)"])
        case .takeDial(let op, let peer):
            closingOnFailure { () throws(AstraNetError) in try streams.takeDial(op, from: peer) }
        case .takeShared(let header, let place, let peer):
            closingOnFailure { () throws(AstraNetError) in try streams.takeShared(header, place, from: peer) }
        case .sendTaken(let count):
            // A delay of up to 1 ms is acceptable because credit is sent about as often.
            let header = peerHeader(.taken)
            link.sendControlDelayed { $0.writeOp(header, number: count) }
        case .loseRoute(let host):
            streams.loseRoute(to: host)
            node.routeLost(to: host, over: link)
        case .avoidLink:
            node.peerGoesAway(link)
        case .flush(let deadline):
            close(LinkMachine.nodeIsClosed, at: deadline)
            flush()
        case .awaitWritten:
            awaitWritten()
        case .drain(let reason, let deadline):
            logClosing(reason)
            if let deadline { close(reason, at: deadline) }
            end(reason)
            closeOutput(reason)
        case .close(let reason):
            logClosing(reason)
            context?.close(promise: nil)
        case .reject(let failure):
            // The code that dialled a connection reports its failure.
            if !link.isDialled { node.warnings.closed(failure, from: context?.remoteAddress, log) }
            context?.close(promise: nil)
        case .closeConnection:
            context?.close(promise: nil)
        case .end(let reason):
            end(reason)
        }
    }

    private func closingOnFailure(_ body: () throws(AstraNetError) -> Void) {
        do throws(AstraNetError) {
            try body()
        } catch {
            close(error)
        }
    }

    private func logClosing(_ reason: AstraNetError) {
        log.debug("link closed", metadata: ["reason": "\(reason)"])
    }

    /// Returns the header of an op to the peer that belongs to no stream.
    private func peerHeader(_ command: Command) -> OpHeader {
        OpHeader(command, to: Address(host: .peer, port: 0), from: node.address(port: 0))
    }

    private func sendToPeer(_ command: Command) {
        let header = peerHeader(command)
        link.sendControl { $0.writeOp(header) }
    }

    private func sendHandshake() {
        guard let context else { return }
        ticks = context.eventLoop.scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) { [link] _ in
            link.handler.value?.tick()
        }
        let handshake = Handshake(
            remoteAddress: context.remoteAddress?.printed ?? "", abilities: Set(Handshake.Ability.allCases),
            maximumPayload: Op.largePayload, name: node.configuration.name)
        var ops = context.channel.allocator.buffer(capacity: 128)
        ops.writeOp(Op(header: peerHeader(.handshake), payload: handshake.encoded()))
        context.write(wrapOutboundOut(ops), promise: nil)
        context.flush()
    }

    private func announceUp(_ peer: LinkPeer, seenAt address: String, _ name: String?) {
        log[metadataKey: "peer"] = "\(peer.host)"
        if let name { log[metadataKey: "peer name"] = "\(name)" }
        link.peerName.withLockedValue { $0 = name }
        link.learned(peer)
        if let user = context?.userOfPeer, link.origin.verifiesUser { credentials.userID = user }
        if case .accepted(let listener) = link.origin { credentials.listener = listener.description }
        identify()
        do throws(AstraNetError) {
            let result = try node.linkUp(link, peer: peer.host, seenAt: address)
            up.succeed(LinkUp(link: link, peer: peer.host, isRetired: result == .retire(link.id)))
            perform(machine.joined(refusal: nil, now: link.now))
        } catch {
            perform(machine.joined(refusal: error, now: link.now))
        }
        // The connection was accepted just before this node stopped listening.
        if node.directory.isGoingAway { link.sendGoAway() }
    }

    /// Reports to the machine when all written bytes have been sent.
    private func awaitWritten() {
        // The promise of an empty write completes after all earlier writes.
        context?.writeAndFlush(wrapOutboundOut(ByteBuffer())).whenComplete { [link] _ in
            guard let handler = link.handler.value else { return }
            handler.perform(handler.machine.written())
        }
    }

    private func closeOutput(_ reason: AstraNetError) {
        context?.close(mode: .output).whenFailure { [link] _ in link.handler.value?.close(reason) }
    }

    private func close(_ reason: AstraNetError, at deadline: UInt64) {
        let deadline = NIODeadline.uptimeNanoseconds(deadline)
        link.eventLoop.scheduleTask(deadline: deadline) { [link] in link.handler.value?.close(reason) }
    }

    /// Fails the streams of the link and removes the link from the node.
    private func end(_ reason: AstraNetError) {
        ticks?.cancel()
        ticks = nil
        let unsent = link.closeOutbound()
        link.removeSlotWaiters()
        streams.queueItems(unsent.items)
        let lost = node.linkDown(link, reason: reason)
        streams.end(writer.end(unsent), reason)
        streams.wakeAll()
        forwarder.end()
        up.fail(reason)
        node.joiner.linkDown(link, lost)
        reader.end()
    }

    // MARK: - Access

    private func add(_ offer: ServiceOffer, isPrivate: Bool) {
        switch node.add(offer, from: link, isPrivate: isPrivate, log) {
        case .done: break
        case .limitReached: perform(machine.refusedOffer(name: offer.name))
        case .forbidden: if withheld.count < Self.maximumWithheld { withheld[offer] = isPrivate }
        }
    }

    /// Determines what the peer may do by the current access rules.
    private func identify() {
        let identity = LinkIdentity(credentials, node.access)
        link.identity = identity
        machine.mayRelay = identity.mayRelay
        if !identity.name.isEmpty { log[metadataKey: "identity"] = "\(identity.name)" }
    }

    /// Applies changed access rules: withdraws the offers that are not allowed any more, and adds those that are now.
    ///
    /// Closes the link if its peer has sent ops of other hosts and may do so no more, or now. Ops that are dropped in
    /// between leave holes in streams, and announcements of other hosts are not repeated.
    func applyRules() {
        guard machine.peer != nil, machine.isOpen else { return }
        let mayRelay = machine.mayRelay
        identify()
        if machine.mayRelay != mayRelay, hasDroppedOps || hasRelayedOps { return close(Self.relayChanged) }
        node.directory.recordOwner(of: link)
        let waiting = withheld
        withheld = [:]
        for (offer, isPrivate) in waiting { add(offer, isPrivate: isPrivate) }
        for (offer, isPrivate) in node.withdrawForbidden(of: link) where withheld.count < Self.maximumWithheld {
            withheld[offer] = isPrivate
        }
    }

    /// Whether streams or offers of hosts behind the peer use the link.
    private var hasRelayedOps: Bool {
        link.hasRoutedStreams.load(ordering: .relaxed)
            || node.directory.offers(of: link).contains(where: \.offer.isRelayed)
    }

    private static let relayChanged = AstraNetError(
        .insecure, "the access rules have changed: whether the peer may carry messages of other hosts")

    // MARK: - Events from the node

    /// Closes the link and fails its streams with `reason`.
    package func close(_ reason: AstraNetError) {
        perform(machine.close(reason))
    }

    /// Closes the link after the bytes of closed streams have been sent, or at `deadline`.
    func finish(deadline: NIODeadline) {
        perform(machine.finish(deadline: deadline.uptimeNanoseconds))
    }

    /// Retires the link: it closes when it has had no streams for 3 s.
    func retire() { machine.retire() }

    /// Makes a retired link usable again because the link that replaced it is closed.
    func reinstate() { machine.reinstate() }

    /// Handles an op that arrived on another link to the same host.
    ///
    /// - Returns: whether the op belongs to a stream of this link.
    func takeFromSibling(_ op: Op) -> Bool {
        guard let peer = machine.peer else { return false }
        do throws(AstraNetError) {
            guard try streams.takeFromSibling(op, from: peer) else { return false }
        } catch {
            close(error)
        }
        streams.wakeAll()
        flush()
        return true
    }

    private func tick() {
        let isUsed = machine.isRetired && isUsed
        perform(machine.tick(now: link.now, buffered: bufferedBytes, isUsed: isUsed))
        if machine.isSilent(now: link.now), !link.isSilent.load(ordering: .relaxed) {
            node.directory.setSilent(link, true)
        }
        streams.failOverdue()
        streams.wakeAll()
        // This comes last because sending may begin waits that start after this tick's time.
        link.flushAfterDelay()
    }

    /// Whether streams or names need the link.
    package var isUsed: Bool {
        streams.count > 0 || link.hasForwarded.load(ordering: .relaxed) || node.directory.hasScopedNames(on: link)
            || hasRoutedStreamsElsewhere
    }

    /// Whether another link to the peer, a router, has streams with hosts behind it.
    ///
    /// The router ends them when it loses this link, because it does not know on which link they are.
    private var hasRoutedStreamsElsewhere: Bool {
        guard let peer = machine.peer else { return false }
        return node.directory.links(to: peer.host, except: link, atMost: .max).contains {
            $0.hasRoutedStreams.load(ordering: .relaxed) && $0.reservedStreamSlots > 0
        }
    }

    /// Bytes that a full connection has buffered; `nil` if the connection is not full or does not report them.
    private var bufferedBytes: Int? {
        guard let context, !context.channel.isWritable else { return nil }
        do {
            return try context.channel.syncOptions?.getOption(.bufferedWritableBytes)
        } catch {
            // The keep-alive then uses writability alone to detect progress.
            return nil
        }
    }

    // MARK: - Events from the connection

    package func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        link.handler.value = self
        if context.channel.isActive { connected(context) }
    }

    package func channelActive(context: ChannelHandlerContext) {
        connected(context)
        context.fireChannelActive()
    }

    private func connected(_ context: ChannelHandlerContext) {
        guard ticks == nil else { return }
        let remote = context.remoteAddress?.printed ?? ""
        log[metadataKey: "link"] = "\(remote)"
        link.peerSocketAddress.withLockedValue { $0 = remote }
        perform(machine.connected(isAccepted: node.linkBegins(link)))
    }

    package func channelInactive(context: ChannelHandlerContext) {
        perform(machine.disconnected(hasStreams: link.reservedStreamSlots > 0))
        link.handler.value = nil
        self.context = nil
        context.fireChannelInactive()
    }

    package func handlerRemoved(context: ChannelHandlerContext) {
        // `channelInactive` is not called for a connection that was never established. If this node dialled it, the
        // code that connects reports the failure.
        if let closeReason {
            up.fail(closeReason)
        } else if !link.isDialled {
            up.fail(AstraNetError(.linkLost, "the connection was not established"))
        }
        link.handler.value = nil
        self.context = nil
    }

    package func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard let credentials = event as? PeerCredentials else { return context.fireUserInboundEventTriggered(event) }
        self.credentials = credentials
    }

    package func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if let error = error as? AstraNetError, error.code == .insecure {
            node.counters.insecureConnections.add(1, ordering: .relaxed)
            return perform(machine.peer == nil ? machine.reject(.insecure(error)) : machine.close(error))
        }
        let failure = SocketNetwork.connectionFailure(error)
        perform(machine.connectionFailed(isReset: failure.isReset, reason: failure.reason))
    }

    package func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable {
            machine.unstalled()
            flush()
        } else {
            machine.wrote(now: link.now, isStalled: true)
            link.holdAnnouncements()
        }
        context.fireChannelWritabilityChanged()
    }

    // MARK: - Reading

    package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        // Bytes that arrive while the link drains are discarded.
        guard machine.isOpen else { return }
        var bytes = unwrapInboundIn(data)
        machine.received(now: link.now)
        if pace != nil { keepPace(bytes.readableBytes) }
        if link.isSilent.load(ordering: .relaxed) { node.directory.setSilent(link, false) }
        if !hasCheckedFirstBytes, let foreign = foreignBytes(in: bytes) { return perform(machine.reject(foreign)) }
        link.suppressFlushUntilReadEnds()
        do throws(AstraNetError) {
            if reader.hasPart {
                guard var op = try reader.completeOp(from: &bytes, payloadLimit: machine.payloadLimit) else { return }
                try takeOps(from: &op)
            }
            try takeOps(from: &bytes)
            if link.memory != nil { perform(machine.readEnded()) }
            // No code would release the budget of a link that has ended.
            if machine.isOpen { try reader.keep(bytes) }
        } catch {
            if machine.peer == nil, error.code == .protocolViolation {
                return perform(machine.reject(.foreign(.unknown)))
            }
            if error.code == .protocolViolation {
                log.warning("protocol violation by the peer, closing the link", metadata: ["error": "\(error)"])
            }
            close(error)
        }
    }

    /// Stops reading for a while if the peer sends more bytes than the limit allows.
    private func keepPace(_ count: Int) {
        let now = link.now
        guard let pause = pace?.received(count, now: now), let context else { return }
        // NIO passes up to four reads before it looks at the option.
        let isPausing = pausedUntil > now
        pausedUntil = now + pause
        guard !isPausing else { return }
        setReading(false, context)
        resumeReading()
    }

    /// Reads again at ``pausedUntil``.
    private func resumeReading() {
        link.eventLoop.scheduleTask(deadline: .uptimeNanoseconds(pausedUntil)) { [link] in
            guard let handler = link.handler.value, let context = handler.context else { return }
            guard handler.pausedUntil <= link.now else { return handler.resumeReading() }
            handler.setReading(true, context)
        }
    }

    private func setReading(_ isReading: Bool, _ context: ChannelHandlerContext) {
        do {
            try context.channel.syncOptions?.setOption(.autoRead, value: isReading)
        } catch {
            // Only a channel that is closing refuses the option, and it reads no more.
            return
        }
    }

    /// Examines the first bytes of the connection.
    ///
    /// - Returns: the failure if they are not those of a node; `nil` if they are, or if more bytes are needed.
    private func foreignBytes(in bytes: ByteBuffer) -> HandshakeFailure? {
        let missing = ForeignBytes.examined - firstBytes.count
        firstBytes += bytes.prefix(missing).readableBytesView
        hasCheckedFirstBytes = firstBytes.count >= ForeignBytes.examined
        return ForeignBytes(firstBytes).map { .foreign($0) }
    }

    /// Handles all whole ops of `bytes`.
    private func takeOps(from bytes: inout ByteBuffer) throws(AstraNetError) {
        // Forwarded ops are sliced from this copy. `bytes` cannot give slices before its reader index.
        let whole = bytes
        var run = LinkForwarder.Run()
        defer {
            if let failure = forwarder.finish(&run, of: whole) { close(failure) }
        }
        while machine.isOpen, let op = try bytes.readOp(maximumPayload: machine.payloadLimit) {
            switch machine.destination(of: op.header) {
            case .stream(let peer):
                try streams.take(op, from: peer)
            case .otherNode(let peer):
                let size = OpHeader.size + op.payload.readableBytes
                let range = bytes.readerIndex - size..<bytes.readerIndex
                if let failure = forwarder.take(op, at: range, of: whole, from: peer, &run) { throw failure }
            case .link:
                perform(machine.received(op, now: link.now))
            case .forged:
                hasDroppedOps = true
                if op.header.command == .dial { streams.refuseRelayed(op) }
                node.forgedOp(of: op.header.source.host, from: link, log)
            case .none:
                return
            }
        }
    }

    package func channelReadComplete(context: ChannelHandlerContext) {
        if streams.takeActivity() {
            link.streamReads.store(link.streamReads.load(ordering: .relaxed) &+ 1, ordering: .relaxed)
        }
        wakeStreams()
        // The resumed tasks run now, so that the flush below sends their output too.
        node.executor.runWaiting(on: link.tasks) { self.flushIfDue() }
        flush()
        context.fireChannelReadComplete()
    }

    /// Wakes the streams that the last turn did not reach, and flushes their output.
    func takeTurn() {
        wakeStreams()
        flush()
    }

    /// Wakes the streams that have events. Flushes their answers every ``answerTime``.
    private func wakeStreams() {
        answersBegan = link.now
        streams.wakeAll { self.flushIfDue() }
    }

    /// Interval in nanoseconds at which answers are flushed while more streams are still to be woken (10 µs).
    ///
    /// The peer works on the first answers while this node makes the next ones.
    private static let answerTime: UInt64 = 10_000

    /// Flushes urgent ops if ``answerTime`` has passed since the last flush.
    private func flushIfDue() {
        let now = link.now
        guard now &- answersBegan > Self.answerTime, link.hasUrgentOutbound else { return }
        answersBegan = now
        flush()
        // Later ops schedule no flush of their own: the end of the read or the next interval sends them together.
        link.suppressFlushUntilReadEnds()
    }

    // MARK: - Writing

    /// Wakes the streams that other threads queued, and sends the queued work until the connection is full.
    func flush() {
        streams.queueItems(link.takeItems())
        streams.wakeAll()
        guard let context, machine.isOpen else { return }
        let channel = link.channel
        let isWritable = channel.isWritable
        let round = writer.pack(isWritable: isWritable, &machine)
        if round.size > 0 { write(to: context) }
        guard isWritable else {
            perform(machine.wroteWhileFull(round.size))
            // Other threads may have queued wakes since `takeItems`. They must not wait until the connection is
            // writable.
            return streams.wakeAll()
        }
        if round.size > 0 { machine.wrote(now: link.now, isStalled: !channel.isWritable) }
        if round.isBehind {
            streams.wakeAll()
            return flushAgain(context)
        }
        if round.hasStreams { link.expediteControlAfterBytes() }
        streams.wakeAll()
        // Streams that have not been woken may have bytes to send.
        if round.isFlushing, !writer.hasBacklog, !streams.hasLingering, !streams.hasQueuedItems, link.isOutboundEmpty {
            perform(machine.flushed())
        }
        if writer.hasMore { flushAgain(context) }
    }

    private func write(to context: ChannelHandlerContext) {
        let buffers = writer.takeBuffers()
        for buffer in buffers { context.write(wrapOutboundOut(buffer), promise: nil) }
        context.flush()
        writer.reuse(buffers)
    }

    /// Schedules another round for the remaining work, behind the other tasks of the event loop.
    ///
    /// A full connection needs no round: `channelWritabilityChanged` flushes. The event loop runs all tasks, including
    /// those added meanwhile, before it reads its sockets, so reads wait. The wait is short: streams cannot send more
    /// than their credit, and new credit arrives only with a read.
    private func flushAgain(_ context: ChannelHandlerContext) {
        guard context.channel.isWritable else { return }
        context.eventLoop.execute { [link] in link.handler.value?.flush() }
    }
}
