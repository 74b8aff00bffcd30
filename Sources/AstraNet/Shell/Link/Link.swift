internal import DequeModule
internal import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore
internal import Synchronization

/// The thread-safe side of a link, a connection to another node.
///
/// It collects outgoing ops and notifies the event loop once for each change from idle to busy. The event loop owns all
/// other state of the link (``LinkHandler``).
final class Link: Sendable {
    let id: ServiceRegistry.LinkID
    let node: NodeCore
    let channel: any Channel
    /// Whether this node dialled the link.
    let isDialled: Bool
    /// The memory that both ends share; `nil` for none.
    let memory: SharedMemory?
    /// The deadlines of waits for this link's streams.
    let deadlines: Deadlines
    /// The queue of resumed tasks that waited for this link's streams.
    let tasks: LoopExecutor.Queue?
    /// The bytes that the peer makes this node buffer.
    let buffered: BufferBudget
    /// The bytes from this link that wait on other links to be forwarded. The limit keeps a peer that ignores credit
    /// from filling the buffer of another link.
    let forwarding: BufferBudget
    let halfOp = HalfOp()
    /// The bytes that requests of this node have granted for pushed sources. They take at most a quarter of
    /// ``buffered``.
    let pushGrants: BufferBudget
    /// The `ip:port` of the peer; empty if there is no such address.
    let peerSocketAddress = NIOLockedValueBox("")
    /// The event loop of ``channel``. It is stored because the channel's own look-up costs more than reading the clock.
    let eventLoop: any EventLoop

    /// The peer of the link.
    ///
    /// Marked unsafe because the compiler cannot prove exclusive access. The event loop writes it once, before it sets
    /// ``isPeerKnown``. Other threads read it only after they have seen that flag. It has no lock, because each dial
    /// reads it.
    @exclusivity(unchecked) private nonisolated(unsafe) var knownPeer: LinkPeer?
    private let isPeerKnown = Atomic<Bool>(false)
    /// Whether this node has forwarded ops over the link. A router does not know whether the streams of these ops still
    /// exist.
    let hasForwarded = Atomic<Bool>(false)
    /// The shortest measured round trip, in nanoseconds; 0 before the first measurement.
    let roundTrip = Atomic<UInt64>(0)
    /// The number of streams that end at this node, including those whose DIAL is still to be sent.
    private let streamCount = Atomic<Int>(0)
    /// Requests whose next pushed source found no place for its stream.
    private let placeWaiters = NIOLockedValueBox<[ObjectIdentifier: Stream]>([:])
    private let hasPlaceWaiters = Atomic<Bool>(false)

    let locks = StreamLocks()

    private let outbox = NIOLockedValueBox(Outbox())
    /// The event loop's side of the link; `nil` when the connection is closed. May be used only on the event loop.
    let handler: NIOLoopBoundBox<LinkHandler?>

    /// Complete ops from another link, to be forwarded.
    struct Forwarded {
        var ops: ByteBuffer
        /// The link that they came from; `nil` for ops of this node that must stay in order with forwarded ops.
        var source: Link?

        /// Releases the ops in the buffer budgets.
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

    /// Queues control ops. They are sent ahead of all DATA.
    func sendControl(_ write: (inout ByteBuffer) -> Void) {
        schedule { write(&$0.control) }
    }

    /// Maximum delay before a non-urgent op is flushed: 1 ms. Batching it with later ops saves a write here and a read
    /// at the peer, which cost more than the op itself.
    static let patience = TimeAmount.milliseconds(1)

    /// Queues control ops that may wait for later ops, at most for ``patience``.
    func sendControlPatiently(_ write: (inout ByteBuffer) -> Void) {
        scheduleDeferred { write(&$0.outbound.control) }
    }

    /// Reserves a place for a stream. Returns `false` if the link has its maximum number of streams.
    func takeStreamPlace() -> Bool {
        if takePlace() { return true }
        node.counters.refusedStreams.add(1, ordering: .relaxed)
        return false
    }

    /// Reserves a place for a stream. If there is none, the delegate of `request` is called when there may be one.
    func takeStreamPlace(orCall request: Stream) -> Bool {
        if takePlace() { return true }
        placeWaiters.withLockedValue { $0[ObjectIdentifier(request)] = request }
        hasPlaceWaiters.store(true, ordering: .sequentiallyConsistent)
        if isClosed { forgetPlaceWaiters() }
        // Another thread may have released a place in the meantime.
        return takePlace()
    }

    /// The count never exceeds the limit, not even for a moment. Otherwise another thread could fail at that moment,
    /// although a place is free, and would not be notified of it.
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

    /// Releases the place of a stream.
    func giveStreamPlace() {
        streamCount.subtract(1, ordering: .sequentiallyConsistent)
        guard hasPlaceWaiters.load(ordering: .sequentiallyConsistent) else { return }
        hasPlaceWaiters.store(false, ordering: .sequentiallyConsistent)
        for request in forgetPlaceWaiters() { request.callDelegateSoon() }
    }

    /// The number of reserved stream places.
    var takenStreamPlaces: Int { streamCount.load(ordering: .relaxed) }

    /// Removes and returns the requests that wait for a place.
    @discardableResult
    func forgetPlaceWaiters() -> [Stream] {
        placeWaiters.withLockedValue { waiters in
            defer { waiters = [:] }
            return Array(waiters.values)
        }
    }

    /// Adds a stream to the link and sends its DIAL. The caller has reserved its place.
    ///
    /// - Throws: ``AstraNetError`` with code `linkLost` if the link is closed.
    func open(_ stream: Stream) throws(AstraNetError) {
        let isOpen = schedule { $0.opening.append(stream) }
        guard isOpen else { throw AstraNetError(.linkLost, "the link to \(stream.remoteAddress.host) is lost") }
    }

    /// Queues a stream that has something to send. The stream is queued at most once until the event loop has processed
    /// it.
    func markDirty(_ stream: Stream) {
        schedule { $0.dirty.append(stream) }
    }

    /// Schedules a call of the stream's delegate on the event loop.
    func wakeSoon(_ stream: Stream) {
        // When the link is closed, its event loop still runs.
        if !schedule({ $0.turns.append(.wake(stream)) }) { eventLoop.execute { stream.wake() } }
    }

    /// Schedules `body` on the event loop, in order with the calls of the streams' delegates.
    func runSoon(_ body: @escaping @Sendable () -> Void) {
        if !schedule({ $0.turns.append(.run(body)) }) { eventLoop.execute(body) }
    }

    enum Forwarding { case done, full, sourceIsFull, closed }

    /// Queues complete ops behind those that were forwarded before.
    ///
    /// - Parameters:
    ///   - source: the link that the ops came from; `nil` for ops of this node.
    ///   - isUrgent: whether the ops may use the part of the budget that is reserved for ops that must not be dropped.
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

    /// Reserves `size` bytes for an op that is passed to another link of the same host. Returns `false` if they exceed
    /// a budget.
    func takePassing(_ size: Int, isUrgent: Bool) -> Bool {
        guard forwarding.take(size, isUrgent: isUrgent) else { return false }
        if buffered.take(size, isUrgent: isUrgent) { return true }
        forwarding.give(size)
        return false
    }

    /// Releases bytes that ``takePassing(_:isUrgent:)`` has reserved.
    func givePassing(_ size: Int) {
        forwarding.give(size)
        buffered.give(size)
    }

    /// Closes the link and ends its streams.
    func close(_ reason: AstraNetError) {
        eventLoop.execute { self.handler.value?.close(reason) }
    }

    /// Closes the link after the queued bytes of closed streams are flushed, at the latest at the deadline.
    func finish(deadline: NIODeadline) {
        eventLoop.execute { self.handler.value?.finish(deadline: deadline) }
    }

    /// The peer; `nil` before the handshake is complete.
    var peer: LinkPeer? { isPeerKnown.load(ordering: .acquiring) ? knownPeer : nil }

    /// Stores the peer when the handshake is complete.
    func learned(_ peer: LinkPeer) {
        guard !isPeerKnown.load(ordering: .relaxed) else { return }
        knownPeer = peer
        isPeerKnown.store(true, ordering: .releasing)
    }

    /// Whether this node and `host` both announced the ability on this link. Abilities do not apply to hosts behind a
    /// router.
    func can(_ ability: Handshake.Ability, with host: HostID) -> Bool {
        peer?.can(ability, with: host) ?? false
    }

    /// Makes the link take no new streams and close when it has none.
    func retire() {
        eventLoop.execute { self.handler.value?.retire() }
    }

    /// Makes a retired link usable again, because the link that replaced it is lost.
    func reinstate() {
        eventLoop.execute { self.handler.value?.reinstate() }
    }

    /// The current time of the event loop's clock, in nanoseconds.
    var now: UInt64 { eventLoop.now.uptimeNanoseconds }

    /// Converts `instant` to the clock of the event loop.
    ///
    /// Not inlined: the compiler does not know the size of an instant, so each instant in an async function is an
    /// allocation.
    @inline(never)
    func deadline(_ instant: ContinuousClock.Instant?) -> NIODeadline? {
        // Not a method of `Surroundings`, because the call would copy it.
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

    /// Flushes the ops that were deferred. Must be called on the event loop.
    func flushIfPatienceIsOver() {
        if outbox.withLockedValue({ $0.patienceIsOver() }) { handler.value?.flush() }
    }

    /// Flushes deferred ops after bytes of streams were sent, because the peer may need these ops together with the
    /// bytes.
    func hurryAfterBytes() {
        if outbox.withLockedValue({ $0.patienceIsPointless() }) { scheduleFlush() }
    }

    /// Schedules a flush. On the event loop it runs after the current read, so that all answers are flushed together.
    private func scheduleFlush() {
        eventLoop.execute { self.handler.value?.flush() }
    }

    // MARK: - Announcements

    /// Queues SERVICE or NO_SERVICE ahead of all DATA. Holds the announcement back while the connection is full.
    ///
    /// - Parameter isPatient: whether the announcement may wait for the next op on this link. If no op comes, it is
    ///   sent with the next tick.
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

    /// Announces many services as ``announce(_:_:at:to:isPatient:)`` does.
    func announce(_ command: Command, all services: some Sequence<(name: String, address: Address)>) {
        let needsFlush = outbox.withLockedValue { outbox -> Bool in
            guard !outbox.isClosed else { return false }
            for service in services { outbox.announce(command, service.name, at: service.address, to: .peer) }
            return outbox.mustTell()
        }
        if needsFlush { scheduleFlush() }
    }

    /// Holds announcements back, because the connection is full, until all of them have been sent.
    func holdAnnouncements() {
        outbox.withLockedValue { $0.hold() }
    }

    /// The number of announcements that are held back.
    var heldAnnouncements: Int { outbox.withLockedValue { $0.heldCount } }

    // MARK: - Called on the event loop

    /// Begins a read. Ops that are queued from now on are sent together at the next
    /// ``takeOutbound(into:isWritable:isJoined:)``.
    func holdUntilReadEnds() {
        outbox.withLockedValue { $0.holdUntilReadEnds() }
    }

    /// Takes the queued work for the event loop.
    func takeTurns() -> [Outbox.Turn] {
        outbox.withLockedValue { $0.takeTurns() }
    }

    /// Takes everything that is to be sent, except that held announcements are taken in batches.
    ///
    /// - Parameters:
    ///   - taken: receives the ops and streams. It must be empty.
    ///   - isWritable: whether the connection is writable. If not, announcements stay held.
    ///   - isJoined: whether the caller has something else to send, so that deferred ops are sent with it.
    func takeOutbound(into taken: inout Outbox.Outbound, isWritable: Bool, isJoined: Bool) {
        let needsTimer = outbox.withLockedValue {
            $0.take(into: &taken, releasesHeld: isWritable, isJoined: isJoined)
        }
        if needsTimer { startFlushTimer() }
    }

    /// Whether the link is closed for sending.
    var isClosed: Bool { outbox.withLockedValue { $0.isClosed } }

    /// Whether streams wait for their DIAL to be taken.
    var hasStreamsToOpen: Bool { outbox.withLockedValue { !$0.outbound.opening.isEmpty } }

    /// Whether ops are queued that are not deferred.
    var hasUrgentOutbound: Bool { outbox.withLockedValue { $0.isUrgent } }

    /// Whether nothing is queued.
    var isOutboundEmpty: Bool { outbox.withLockedValue { $0.isEmpty } }

    /// Closes the link for sending. Returns what was not sent.
    func closeOutbound() -> Outbox.Outbound {
        outbox.withLockedValue { outbox in
            var closed = Outbox()
            closed.isClosed = true
            swap(&closed, &outbox)
            return closed.outbound
        }
    }
}

/// A link whose handshake is complete.
struct LinkUp: Sendable {
    var link: Link
    /// The host of the link.
    var peer: HostID
    /// Whether another link already led to the host, so that this one will be closed.
    var isRetired: Bool
}
