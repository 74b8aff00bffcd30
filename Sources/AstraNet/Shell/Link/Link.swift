internal import DequeModule
internal import Logging
internal import NIOConcurrencyHelpers
package import NIOCore
package import Synchronization

/// The thread-safe side of a link, which is one connection to another node.
///
/// Any thread queues outbound work here. The first item that is queued on an idle link schedules a flush on the event
/// loop. All other state of a link belongs to its event loop (``LinkHandler``).
package final class Link: Sendable {
    package let id: ServiceRegistry.LinkID
    let node: NodeCore
    package let channel: any Channel
    /// Whether this node opened the connection.
    package let isDialled: Bool
    /// The memory shared with the peer (`docs/protocol.md` §7); `nil` for all links except worker links.
    let memory: SharedMemory?
    /// Deadlines of tasks that wait on this link's streams.
    let deadlines: Deadlines
    /// Queue of tasks that resume after they waited on this link's streams. `nil` if the executor has none for the
    /// event loop.
    let tasks: LoopExecutor.Queue?
    /// Budget for the bytes that the peer makes this node hold.
    package let buffered: BufferBudget
    /// Budget for bytes from this link that wait on other links to be forwarded: a quarter of ``buffered``'s limit.
    ///
    /// A peer that ignores credit therefore fills only a part of another link's budget.
    let forwarding: BufferBudget
    let partialOp = PartialOp()
    /// Budget for the bytes that this node's requests granted to servers for pushed sources: a quarter of
    /// ``buffered``'s limit.
    package let pushGrants: BufferBudget
    /// `ip:port` of the peer; empty if the peer has no such address.
    let peerSocketAddress = NIOLockedValueBox("")
    /// What the peer has proved, and what it may do.
    private let identityBox = NIOLockedValueBox(LinkIdentity.unknown)
    /// Secures the connection; `nil` for none.
    let security: (any LinkSecurity)?
    /// Where the connection was made.
    let origin: LinkOrigin
    /// Name of the peer for people; `nil` if it sent none.
    let peerName = NIOLockedValueBox<String?>(nil)
    /// Time at which the connection began, on the clock of ``eventLoop`` in nanoseconds.
    let began: UInt64
    /// Event loop of ``channel``. It is stored because `Channel.eventLoop` costs more than reading the clock.
    package let eventLoop: any EventLoop

    /// Peer of the link. Unsafe for the compiler.
    ///
    /// The event loop writes it once, before it sets ``isPeerKnown``. Other threads read it only after that flag is
    /// set. Each dial reads it, so it has no lock.
    @exclusivity(unchecked) private nonisolated(unsafe) var knownPeer: LinkPeer?
    private let isPeerKnown = Atomic<Bool>(false)
    /// Whether this node forwarded ops over the link. It does not know whether the streams of those ops still exist.
    let hasForwarded = Atomic<Bool>(false)
    /// Whether this node had a stream on the link with another host than the peer, which is then a router.
    let hasRoutedStreams = Atomic<Bool>(false)
    /// Shortest measured round trip in nanoseconds; 0 before the first measurement.
    package let roundTrip = Atomic<UInt64>(0)
    /// Number of reads that contained ops of streams of this node.
    let streamReads = Atomic<UInt64>(0)
    /// Whether the peer has sent nothing for more than two ping intervals (``KeepAlive/isSilent(now:)``).
    let isSilent = Atomic<Bool>(false)
    /// Whether the peer has sent GOAWAY.
    let isGoingAway = Atomic<Bool>(false)
    /// Number of this node's streams on the link, including those whose DIAL is not sent yet.
    private let streamCount = Atomic<Int>(0)
    /// Requests that could not open the stream of their next source because the link is at its stream limit.
    private let slotWaiters = NIOLockedValueBox<[ObjectIdentifier: MeshStream]>([:])
    private let hasSlotWaiters = Atomic<Bool>(false)

    let locks = StreamLocks()

    private let outbox = NIOLockedValueBox(Outbox())
    /// Handler of the connection; `nil` after the connection has closed. Event loop only.
    package let handler: NIOLoopBoundBox<LinkHandler?>

    /// Whole ops to be forwarded from another link.
    package struct Forwarded {
        var ops: ByteBuffer
        /// Link that the ops came from; `nil` for this node's own ops that keep their order among forwarded ones.
        var source: Link?

        /// Returns the bytes of the ops to the budgets of both links.
        func give(by link: Link) {
            link.buffered.give(ops.readableBytes)
            source?.forwarding.give(ops.readableBytes)
        }
    }

    init(
        id: ServiceRegistry.LinkID, node: NodeCore, channel: any Channel, origin: LinkOrigin, memory: SharedMemory?,
        security: (any LinkSecurity)? = nil
    ) {
        self.id = id
        self.node = node
        self.channel = channel
        eventLoop = channel.eventLoop
        began = channel.eventLoop.now.uptimeNanoseconds
        self.origin = origin
        if case .dialled = origin { isDialled = true } else { isDialled = false }
        self.security = security
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

    /// Maximum delay before a non-urgent op is flushed (1 ms).
    ///
    /// Batching it with later ops saves a `write` here and a `read` at the peer, which cost more than the op itself.
    private static let flushDelay = TimeAmount.milliseconds(1)

    /// Queues non-urgent ops ahead of all DATA. The next flush sends them, at the latest 1 ms later.
    func sendControlDelayed(_ write: (inout ByteBuffer) -> Void) {
        scheduleDelayed { write(&$0.outbound.control) }
    }

    /// Reserves a stream slot. Returns `false` if the link is at its stream limit.
    package func reserveStreamSlot() -> Bool {
        if reserveSlot() { return true }
        node.counters.refusedStreams.add(1, ordering: .relaxed)
        return false
    }

    /// Reserves a stream slot. If the link is at its stream limit, returns `false` and later calls the delegate of
    /// `request`, when a slot may be free.
    package func reserveStreamSlot(orCall request: MeshStream) -> Bool {
        if reserveSlot() { return true }
        slotWaiters.withLockedValue { $0[ObjectIdentifier(request)] = request }
        hasSlotWaiters.store(true, ordering: .sequentiallyConsistent)
        if isClosed { removeSlotWaiters() }
        // Another thread may have released a slot since the first attempt.
        return reserveSlot()
    }

    /// Reserves a stream slot if one is free.
    ///
    /// The count never exceeds the limit, not even temporarily. Otherwise another thread could see a full link and wait
    /// for a slot although one is free.
    private func reserveSlot() -> Bool {
        var count = streamCount.load(ordering: .sequentiallyConsistent)
        while count < node.configuration.maximumStreamsPerLink {
            let (isTaken, present) = streamCount.weakCompareExchange(
                expected: count, desired: count + 1, ordering: .sequentiallyConsistent)
            if isTaken { return true }
            count = present
        }
        return false
    }

    /// Releases a stream slot, and schedules the delegates of all requests that wait for one.
    package func releaseStreamSlot() {
        streamCount.subtract(1, ordering: .sequentiallyConsistent)
        guard hasSlotWaiters.load(ordering: .sequentiallyConsistent) else { return }
        hasSlotWaiters.store(false, ordering: .sequentiallyConsistent)
        for request in removeSlotWaiters() { request.callDelegateSoon() }
    }

    /// Number of reserved stream slots.
    package var reservedStreamSlots: Int { streamCount.load(ordering: .relaxed) }

    /// Removes and returns the requests that wait for a stream slot.
    @discardableResult
    func removeSlotWaiters() -> [MeshStream] {
        slotWaiters.withLockedValue { waiters in
            defer { waiters = [:] }
            return Array(waiters.values)
        }
    }

    /// Queues the DIAL of a stream that has a reserved slot, and registers the stream on the link.
    ///
    /// - Throws: ``AstraNetError`` with code `linkLost` if the link is closed.
    func open(_ stream: MeshStream) throws(AstraNetError) {
        let isOpen = schedule { $0.opening.append(stream) }
        guard isOpen else { throw AstraNetError(.linkLost, "the link to \(stream.remoteAddress.host) is closed") }
    }

    /// Queues a stream that has bytes, credit or an end to send. The caller does not queue it again before the event
    /// loop has taken it.
    package func markDirty(_ stream: MeshStream) {
        schedule { $0.dirty.append(stream) }
    }

    /// Schedules a wake of the stream on the event loop: its tasks resume and its delegate is called.
    func wakeSoon(_ stream: MeshStream) {
        // The event loop outlives the link.
        if !schedule({ $0.items.append(.wake(stream)) }) { eventLoop.execute { stream.wake() } }
    }

    /// Runs `body` on the event loop, in order with the delegate calls of streams.
    func runSoon(_ body: @escaping @Sendable () -> Void) {
        if !schedule({ $0.items.append(.run(body)) }) { eventLoop.execute(body) }
    }

    enum Forwarding { case done, full, sourceIsFull, closed }

    /// Queues whole ops behind all previously forwarded ops.
    ///
    /// - Parameters:
    ///   - source: the link that the ops came from; `nil` for this node's own ops.
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

    /// Reserves `size` bytes for an op that waits for another link to the same host. Returns `false` if that exceeds a
    /// limit.
    func reservePassing(_ size: Int, isUrgent: Bool) -> Bool {
        guard forwarding.take(size, isUrgent: isUrgent) else { return false }
        if buffered.take(size, isUrgent: isUrgent) { return true }
        forwarding.give(size)
        return false
    }

    /// Releases `size` bytes that ``reservePassing(_:isUrgent:)`` reserved.
    func releasePassing(_ size: Int) {
        forwarding.give(size)
        buffered.give(size)
    }

    /// Applies changed access rules to the link.
    func applyRules() {
        eventLoop.execute { self.handler.value?.applyRules() }
    }

    /// Closes the link and fails its streams with `reason`.
    package func close(_ reason: AstraNetError) {
        eventLoop.execute { self.handler.value?.close(reason) }
    }

    /// Closes the link after the bytes of closed streams have been sent, or at `deadline`.
    func finish(deadline: NIODeadline) {
        eventLoop.execute { self.handler.value?.finish(deadline: deadline) }
    }

    /// The peer; `nil` before its HANDSHAKE has arrived.
    package var peer: LinkPeer? { isPeerKnown.load(ordering: .acquiring) ? knownPeer : nil }

    /// Stores the peer once, when its HANDSHAKE arrives. Event loop only.
    func learned(_ peer: LinkPeer) {
        guard !isPeerKnown.load(ordering: .relaxed) else { return }
        knownPeer = peer
        isPeerKnown.store(true, ordering: .releasing)
    }

    /// What the peer has proved, and what it may do. Set on the event loop.
    package var identity: LinkIdentity {
        get { identityBox.withLockedValue { $0 } }
        set { identityBox.withLockedValue { $0 = newValue } }
    }

    /// The direct links to hosts behind the peer, which must be as secure as this one.
    enum DirectLinks {
        /// This link is not secured, so these need not be either.
        case plain
        case secured(any LinkSecurity)
        /// This node has nothing to secure them with.
        case none
    }

    var directLinks: DirectLinks {
        guard let security else { return .plain }
        // A listener does not dial.
        guard isDialled, let direct = security.forDirectLinks else { return .none }
        return .secured(direct)
    }

    /// Returns whether this node and `host` both have the ability on this link. Abilities apply only to the peer
    /// (`docs/protocol.md` §2).
    func can(_ ability: Handshake.Ability, with host: HostID) -> Bool {
        peer?.can(ability, with: host) ?? false
    }

    /// Tells the peer to join the address of this node again, because another process accepts links there.
    func sendGoAway() {
        let header = OpHeader(.goAway, to: Address(host: .peer, port: 0), from: node.address(port: 0))
        sendControl { $0.writeOp(header) }
    }

    /// Retires the link because another link leads to the same host, or one end goes away. It closes when it has had
    /// no streams for 3 s.
    func retire() {
        eventLoop.execute { self.handler.value?.retire() }
    }

    /// Makes a retired link usable again because the link that replaced it is closed.
    func reinstate() {
        eventLoop.execute { self.handler.value?.reinstate() }
    }

    /// Current time on the event loop's clock, in nanoseconds.
    var now: UInt64 { eventLoop.now.uptimeNanoseconds }

    /// Converts `instant` to the event loop's clock.
    ///
    /// The function is not inlined. The compiler does not know the size of an instant, so in an async function each
    /// instant is a heap allocation.
    @inline(never)
    func deadline(_ instant: ContinuousClock.Instant?) -> NIODeadline? {
        // A method of `surroundings` would copy them.
        instant.map { eventLoop.deadline(in: node.surroundings.now().duration(to: $0)) }
    }

    @discardableResult
    private func schedule(_ change: (inout Outbox.Outbound) -> Void) -> Bool {
        let (isOpen, needsFlush) = outbox.withLockedValue { outbox -> (Bool, Bool) in
            guard !outbox.isClosed else { return (false, false) }
            change(&outbox.outbound)
            return (true, outbox.queuedUrgent())
        }
        if needsFlush { scheduleFlush() }
        return isOpen
    }

    private func scheduleDelayed(_ change: (inout Outbox) -> Void) {
        let needsTimer = outbox.withLockedValue { outbox -> Bool in
            guard !outbox.isClosed else { return false }
            change(&outbox)
            return outbox.queuedNonUrgent()
        }
        if needsTimer { startFlushTimer() }
    }

    private func startFlushTimer() {
        eventLoop.scheduleTask(in: Self.flushDelay) { self.flushAfterDelay() }
    }

    /// Flushes the queue, including non-urgent ops whose delay is over. Event loop only.
    func flushAfterDelay() {
        if outbox.withLockedValue({ $0.flushDelayEnded() }) { handler.value?.flush() }
    }

    /// Schedules a flush of non-urgent ops that were queued while the event loop sent bytes of streams.
    func expediteControlAfterBytes() {
        if outbox.withLockedValue({ $0.expediteControl() }) { scheduleFlush() }
    }

    /// Schedules a flush on the event loop. During a read it runs after the read, so that all answers are sent
    /// together.
    private func scheduleFlush() {
        eventLoop.execute { self.handler.value?.flush() }
    }

    // MARK: - Announcements

    /// Queues SERVICE or NO_SERVICE ahead of all DATA. Holds it back while the connection is full.
    ///
    /// - Parameter isDelayed: whether no flush is scheduled for it. Use `true` if the announcement matters only to
    ///   later ops of this link: it is sent together with those, at the latest with the next tick (1 s).
    func announce(
        _ command: Command, _ name: String, at address: Address, to host: HostID = .peer, isDelayed: Bool = false
    ) {
        let needsFlush = outbox.withLockedValue { outbox -> Bool in
            guard !outbox.isClosed else { return false }
            outbox.announce(command, name, at: address, to: host)
            return !isDelayed && outbox.queuedUrgent()
        }
        if needsFlush { scheduleFlush() }
    }

    /// Announces many services to the peer, as ``announce(_:_:at:to:isDelayed:)`` does for one.
    func announce(_ command: Command, all services: some Sequence<(name: String, address: Address)>) {
        let needsFlush = outbox.withLockedValue { outbox -> Bool in
            guard !outbox.isClosed else { return false }
            for service in services { outbox.announce(command, service.name, at: service.address, to: .peer) }
            return outbox.queuedUrgent()
        }
        if needsFlush { scheduleFlush() }
    }

    /// Holds announcements back because the connection is full. They are released in batches when it is writable again.
    func holdAnnouncements() {
        outbox.withLockedValue { $0.hold() }
    }

    /// Number of announcements that are held back.
    package var heldAnnouncements: Int { outbox.withLockedValue { $0.heldCount } }

    // MARK: - Calls by the event loop

    /// Begins a read. Ops that are queued from now on do not schedule a flush: the handler flushes when the read ends.
    func suppressFlushUntilReadEnds() {
        outbox.withLockedValue { $0.suppressFlushUntilReadEnds() }
    }

    /// Removes and returns the stream wakes and closures that wait for the event loop.
    func takeItems() -> [Outbox.Item] {
        outbox.withLockedValue { $0.takeItems() }
    }

    /// Takes everything that is queued, and at most one batch of held announcements.
    ///
    /// - Parameters:
    ///   - taken: receives the queue; empty before the call.
    ///   - isWritable: whether the connection is writable. If not, held announcements stay held.
    ///   - isJoined: whether the flush sends something else anyway, so that non-urgent ops go along.
    func takeOutbound(into taken: inout Outbox.Outbound, isWritable: Bool, isJoined: Bool) {
        let needsTimer = outbox.withLockedValue {
            $0.take(into: &taken, releasesHeld: isWritable, isJoined: isJoined)
        }
        if needsTimer { startFlushTimer() }
    }

    /// Whether the link refuses to queue ops because it has ended.
    package var isClosed: Bool { outbox.withLockedValue { $0.isClosed } }

    /// Whether DIALs are queued.
    var hasStreamsToOpen: Bool { outbox.withLockedValue { !$0.outbound.opening.isEmpty } }

    /// Whether urgent work is queued.
    var hasUrgentOutbound: Bool { outbox.withLockedValue { $0.isUrgent } }

    /// Whether nothing is queued, including held announcements.
    var isOutboundEmpty: Bool { outbox.withLockedValue { $0.isEmpty } }

    /// Closes the queue and returns the unsent work.
    package func closeOutbound() -> Outbox.Outbound {
        outbox.withLockedValue { outbox in
            var closed = Outbox()
            closed.isClosed = true
            swap(&closed, &outbox)
            return closed.outbound
        }
    }
}

/// A link that has completed its handshake.
package struct LinkUp: Sendable {
    var link: Link
    /// Host at the other end.
    var peer: HostID
    /// Whether another link to this host existed already, so that this one will be closed.
    var isRetired: Bool
}

/// Where the connection of a link was made.
package enum LinkOrigin: Sendable, Hashable {
    /// This node opened the connection.
    case dialled
    /// A listener accepted the connection. Its address is as configured.
    case accepted(listener: NodeAddress)
    /// The caller of the library passed a connected socket.
    case attached
}
