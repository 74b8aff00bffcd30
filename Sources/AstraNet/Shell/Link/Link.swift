internal import DequeModule
internal import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore
internal import Synchronization

/// One connection to another node, as seen from any thread: what goes out is collected here, and the event loop is told
/// once for each change from idle to busy. Everything else of a link belongs to its event loop (``LinkHandler``).
final class Link: Sendable {
    let id: ServiceRegistry.LinkID
    let node: NodeCore
    let channel: any Channel
    /// Whether this node made the connection.
    let isDialled: Bool
    /// What both ends share.
    let memory: SharedMemory?
    /// Those of waits for this link's streams.
    let deadlines: Deadlines
    /// Tasks that wait for this link's streams, once they go on.
    let tasks: LoopExecutor.Queue?
    /// What the peer makes this node hold.
    let buffered: BufferBudget
    /// What came from this link and waits on others to be forwarded: who heeds no credit fills only a part of what another
    /// link may hold.
    let forwarding: BufferBudget
    let halfOp = HalfOp()
    /// What requests of this node have granted to servers for sources that they push: at most a quarter of ``buffered``.
    let pushGrants: BufferBudget
    /// `ip:port` of the peer; empty if there is no such address.
    let peerSocketAddress = NIOLockedValueBox("")
    /// That of ``channel``, whose own look-up costs more than reading the clock.
    let eventLoop: any EventLoop

    /// Peer of the link. Unsafe for the compiler.
    ///
    /// The event loop writes it once, before it sets ``isPeerKnown``. Other threads read it only after that flag is set.
    /// Each dial reads it, so it has no lock.
    @exclusivity(unchecked) private nonisolated(unsafe) var knownPeer: LinkPeer?
    private let isPeerKnown = Atomic<Bool>(false)
    /// Streams between others have run over it, of which nobody here knows whether they still do.
    let hasForwarded = Atomic<Bool>(false)
    /// The shortest round trip, in nanoseconds; 0 while none was measured.
    let roundTrip = Atomic<UInt64>(0)
    /// How many streams end here that run over it, those included whose DIAL is still to go out.
    private let streamCount = Atomic<Int>(0)
    /// Requests whose next source found no place for its stream.
    private let placeWaiters = NIOLockedValueBox<[ObjectIdentifier: Stream]>([:])
    private let hasPlaceWaiters = Atomic<Bool>(false)

    let locks = StreamLocks()

    private let outbox = NIOLockedValueBox(Outbox())
    /// `nil` once the connection is gone. Event loop only.
    let handler: NIOLoopBoundBox<LinkHandler?>

    /// Whole ops that came from another link.
    struct Forwarded {
        var ops: ByteBuffer
        /// Where they came from; `nil` for what this node has to say itself in their midst.
        var source: Link?

        /// They are held no longer.
        func give(by link: Link) {
            link.buffered.give(ops.readableBytes)
            source?.forwarding.give(ops.readableBytes)
        }
    }

    init(
        id: ServiceRegistry.LinkID, node: NodeCore, channel: any Channel, isDialled: Bool, memory: SharedMemory?
    ) {
        self.id = id
        self.node = node
        self.channel = channel
        eventLoop = channel.eventLoop
        self.isDialled = isDialled
        self.memory = memory
        deadlines = Deadlines(on: channel.eventLoop)
        tasks = node.executor.queue(of: channel.eventLoop)
        buffered = BufferBudget(limit: node.configuration.maximumBufferedPerLink, parent: node.buffered)
        pushGrants = BufferBudget(limit: node.configuration.maximumBufferedPerLink / 4, parent: nil)
        forwarding = BufferBudget(limit: node.configuration.maximumBufferedPerLink / 4, parent: nil)
        handler = NIOLoopBoundBox.makeEmptyBox(valueType: LinkHandler.self, eventLoop: channel.eventLoop)
    }

    /// Queues ops ahead of all DATA.
    func sendControl(_ write: (inout ByteBuffer) -> Void) {
        schedule { write(&$0.control) }
    }

    /// For so long an op nobody waits for may wait for others to leave with: 1 ms. A write of its own, and the read at the other
    /// end, cost more than all else about it.
    static let patience = TimeAmount.milliseconds(1)

    /// As ``sendControl(_:)``, for ops that may leave with others, at the latest after ``patience``.
    func sendControlPatiently(_ write: (inout ByteBuffer) -> Void) {
        scheduleDeferred { write(&$0.outbound.control) }
    }

    /// One more stream runs over the link; `false`, and nothing changed, where it has as many as it may have.
    func takeStreamPlace() -> Bool {
        if takePlace() { return true }
        node.counters.refusedStreams.add(1, ordering: .relaxed)
        return false
    }

    /// As ``takeStreamPlace()``; if there is none, the delegate of `request` is called when there may be one.
    func takeStreamPlace(orCall request: Stream) -> Bool {
        if takePlace() { return true }
        placeWaiters.withLockedValue { $0[ObjectIdentifier(request)] = request }
        hasPlaceWaiters.store(true, ordering: .sequentiallyConsistent)
        if isClosed { forgetPlaceWaiters() }
        // A place may have been given back meanwhile.
        return takePlace()
    }

    /// Never counts more streams than there may be, not even for a moment: another thread would find no place, and nobody would
    /// tell it of the one that there is.
    private func takePlace() -> Bool {
        var count = streamCount.load(ordering: .sequentiallyConsistent)
        while count < node.configuration.maximumStreamsPerLink {
            let (isTaken, present) = streamCount.weakCompareExchange(
                expected: count, desired: count + 1, ordering: .sequentiallyConsistent)
            if isTaken { return true }
            count = present
        }
        return false
    }

    /// A stream runs over the link no longer.
    func giveStreamPlace() {
        streamCount.subtract(1, ordering: .sequentiallyConsistent)
        guard hasPlaceWaiters.load(ordering: .sequentiallyConsistent) else { return }
        hasPlaceWaiters.store(false, ordering: .sequentiallyConsistent)
        for request in forgetPlaceWaiters() { request.callDelegateSoon() }
    }

    /// How many streams hold a place.
    var takenStreamPlaces: Int { streamCount.load(ordering: .relaxed) }

    /// The requests that wait for a place wait no longer.
    @discardableResult
    func forgetPlaceWaiters() -> [Stream] {
        placeWaiters.withLockedValue { waiters in
            defer { waiters = [:] }
            return Array(waiters.values)
        }
    }

    /// Sends the DIAL of a stream, whose place is taken, and lets the link know it.
    ///
    /// - Throws: ``AstraNetError`` with code `linkLost` where the link is gone.
    func open(_ stream: Stream) throws(AstraNetError) {
        let isOpen = schedule { $0.opening.append(stream) }
        guard isOpen else { throw AstraNetError(.linkLost, "the link to \(stream.remoteAddress.host) is gone") }
    }

    /// A stream has something to send; called once until the event loop has looked at it.
    func markDirty(_ stream: Stream) {
        schedule { $0.dirty.append(stream) }
    }

    /// The delegate of a stream is to be called on the event loop.
    func wakeSoon(_ stream: Stream) {
        // The link may be gone; its event loop is not.
        if !schedule({ $0.turns.append(.wake(stream)) }) { eventLoop.execute { stream.wake() } }
    }

    /// Runs `body` on the event loop, in turn with the delegates of the streams.
    func runSoon(_ body: @escaping @Sendable () -> Void) {
        if !schedule({ $0.turns.append(.run(body)) }) { eventLoop.execute(body) }
    }

    enum Forwarding { case done, full, sourceIsFull, closed }

    /// Queues whole ops, behind those that were forwarded before.
    ///
    /// - Parameters:
    ///   - source: the link they came from; `nil` where they are this node's own.
    ///   - isUrgent: whether they may use what is kept free for ops that must not be lost.
    func forward(_ ops: ByteBuffer, from source: Link?, isUrgent: Bool = false) -> Forwarding {
        guard source?.forwarding.take(ops.readableBytes, isUrgent: isUrgent) ?? true else { return .sourceIsFull }
        guard buffered.take(ops.readableBytes, isUrgent: isUrgent) else {
            source?.forwarding.give(ops.readableBytes)
            return .full
        }
        let forwarded = Forwarded(ops: ops, source: source)
        guard schedule({ $0.forwarded.append(forwarded) }) else {
            forwarded.give(by: self)
            return .closed
        }
        return .done
    }

    /// `size` bytes came that wait for another link to the same host; `false`, and nothing changed, where that is too much.
    func takePassing(_ size: Int, isUrgent: Bool) -> Bool {
        guard forwarding.take(size, isUrgent: isUrgent) else { return false }
        if buffered.take(size, isUrgent: isUrgent) { return true }
        forwarding.give(size)
        return false
    }

    /// They wait no longer.
    func givePassing(_ size: Int) {
        forwarding.give(size)
        buffered.give(size)
    }

    /// Ends the link and all that runs over it.
    func close(_ reason: AstraNetError) {
        eventLoop.execute { self.handler.value?.close(reason) }
    }

    /// Closes the connection once all that was written to closed streams is out, at the latest at the deadline.
    func finish(deadline: NIODeadline) {
        eventLoop.execute { self.handler.value?.finish(deadline: deadline) }
    }

    /// The peer, once the handshake is done.
    var peer: LinkPeer? { isPeerKnown.load(ordering: .acquiring) ? knownPeer : nil }

    /// The handshake is done.
    func learned(_ peer: LinkPeer) {
        guard !isPeerKnown.load(ordering: .relaxed) else { return }
        knownPeer = peer
        isPeerKnown.store(true, ordering: .releasing)
    }

    /// Whether this node and `host` both have the ability over this link. Abilities end at the peer.
    func can(_ ability: Handshake.Ability, with host: HostID) -> Bool {
        peer?.can(ability, with: host) ?? false
    }

    /// Takes no new streams from now on, and closes when it has none.
    func retire() {
        eventLoop.execute { self.handler.value?.retire() }
    }

    /// The link that it was retired for is gone.
    func reinstate() {
        eventLoop.execute { self.handler.value?.reinstate() }
    }

    /// The present on the event loop's clock, in nanoseconds.
    var now: UInt64 { eventLoop.now.uptimeNanoseconds }

    /// The moment of `instant` on the clock of the event loop.
    ///
    /// Not inlined: the compiler does not know the size of an instant, and in an async function each one is an allocation.
    @inline(never)
    func deadline(_ instant: ContinuousClock.Instant?) -> NIODeadline? {
        // Not a method of the surroundings, which would be copied for it.
        instant.map { eventLoop.deadline(in: node.surroundings.now().duration(to: $0)) }
    }

    @discardableResult
    private func schedule(_ change: (inout Outbox.Outbound) -> Void) -> Bool {
        let (isOpen, needsFlush) = outbox.withLockedValue { outbox -> (Bool, Bool) in
            guard !outbox.isClosed else { return (false, false) }
            change(&outbox.outbound)
            return (true, outbox.mustTell())
        }
        if needsFlush { scheduleFlush() }
        return isOpen
    }

    private func scheduleDeferred(_ change: (inout Outbox) -> Void) {
        let needsTimer = outbox.withLockedValue { outbox -> Bool in
            guard !outbox.isClosed else { return false }
            change(&outbox)
            return outbox.mustWatch()
        }
        if needsTimer { startFlushTimer() }
    }

    private func startFlushTimer() {
        eventLoop.scheduleTask(in: Self.patience) { self.flushIfPatienceIsOver() }
    }

    /// Sends what has waited for others to leave with. Event loop only.
    func flushIfPatienceIsOver() {
        if outbox.withLockedValue({ $0.patienceIsOver() }) { handler.value?.flush() }
    }

    /// Bytes of streams have left: what was said meanwhile must not wait for others.
    func hurryAfterBytes() {
        if outbox.withLockedValue({ $0.patienceIsPointless() }) { scheduleFlush() }
    }

    /// In the event loop this comes after the current read, so that all its answers leave together.
    private func scheduleFlush() {
        eventLoop.execute { self.handler.value?.flush() }
    }

    // MARK: - Announcements

    /// Queues SERVICE or NO_SERVICE ahead of all DATA, or keeps in mind that it is to be said where the connection takes no more.
    ///
    /// - Parameter isPatient: whether it matters only to what is said after it on this link, and so may wait for that; it leaves
    ///   with the next tick where nothing is said.
    func announce(
        _ command: Command, _ name: String, at address: Address, to host: HostID = .peer, isPatient: Bool = false
    ) {
        let needsFlush = outbox.withLockedValue { outbox -> Bool in
            guard !outbox.isClosed else { return false }
            outbox.announce(command, name, at: address, to: host)
            return !isPatient && outbox.mustTell()
        }
        if needsFlush { scheduleFlush() }
    }

    /// As ``announce(_:_:at:to:)`` for each of many services.
    func announce(_ command: Command, all services: some Sequence<(name: String, address: Address)>) {
        let needsFlush = outbox.withLockedValue { outbox -> Bool in
            guard !outbox.isClosed else { return false }
            for service in services { outbox.announce(command, service.name, at: service.address, to: .peer) }
            return outbox.mustTell()
        }
        if needsFlush { scheduleFlush() }
    }

    /// The connection takes no more: announcements are held until all is on its way again.
    func holdAnnouncements() {
        outbox.withLockedValue { $0.hold() }
    }

    /// How many announcements are held.
    var heldAnnouncements: Int { outbox.withLockedValue { $0.heldCount } }

    // MARK: - The event loop's side

    /// Begins a read. Ops that are queued from now on leave together at the next ``takeOutbound(into:isWritable:isJoined:)``.
    func holdUntilReadEnds() {
        outbox.withLockedValue { $0.holdUntilReadEnds() }
    }

    /// Takes the work for the event loop.
    func takeTurns() -> [Outbox.Turn] {
        outbox.withLockedValue { $0.takeTurns() }
    }

    /// Takes all there is to send, but for held announcements only as many as go to the connection at once.
    ///
    /// - Parameters:
    ///   - taken: gets it; empty before.
    ///   - isWritable: whether the connection takes more; where it does not, they stay held.
    ///   - isJoined: whether there is something else to leave with, for what waits for that.
    func takeOutbound(into taken: inout Outbox.Outbound, isWritable: Bool, isJoined: Bool) {
        let needsTimer = outbox.withLockedValue {
            $0.take(into: &taken, releasesHeld: isWritable, isJoined: isJoined)
        }
        if needsTimer { startFlushTimer() }
    }

    /// Nothing can be sent any more.
    var isClosed: Bool { outbox.withLockedValue { $0.isClosed } }

    /// Whether DIALs wait to be taken.
    var hasStreamsToOpen: Bool { outbox.withLockedValue { !$0.outbound.opening.isEmpty } }

    /// Something waits to be taken that does not wait for others to leave with.
    var hasUrgentOutbound: Bool { outbox.withLockedValue { $0.isUrgent } }

    /// Nothing waits to be taken.
    var isOutboundEmpty: Bool { outbox.withLockedValue { $0.isEmpty } }

    /// Refuses whatever comes from now on, and returns what was not sent.
    func closeOutbound() -> Outbox.Outbound {
        outbox.withLockedValue { outbox in
            var closed = Outbox()
            closed.isClosed = true
            swap(&closed, &outbox)
            return closed.outbound
        }
    }
}

/// A link whose handshake is done.
struct LinkUp: Sendable {
    var link: Link
    /// The host it leads to.
    var peer: HostID
    /// Whether another link led there already, so that this one will be closed.
    var isRetired: Bool
}
