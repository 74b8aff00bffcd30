internal import CChanservPlugin

/// Takes the sources of one call, poll by poll: `struct chanserv_source_sink` with as little room as a case wants.
///
/// `@unchecked Sendable`: polls of one call never overlap, and each begins and ends under the lock of the exchange.
final class StrictSourceSink: @unchecked Sendable {
    private struct Layout {
        /// First, so that the address of the one is that of the other.
        var head: chanserv_source_sink
        var context: Unmanaged<StrictSourceSink>
    }

    private let memory: UnsafeMutablePointer<Layout>
    /// How it is to behave; room is counted in sources.
    private let behaviour: StrictFrameSink.Behaviour
    private let findings: Findings
    /// What happens with a source that is taken, at once.
    private let take: @Sendable (PluginPointer, Fingerprint) -> Void
    private var isOpen = false
    private var polls = 0
    private var isFullNow = false

    /// How many were taken in this poll.
    private(set) var count = 0
    /// In this poll something was offered and refused for want of room.
    private(set) var wasFull = false
    /// In this poll something was refused as too large.
    private(set) var refusedSize = false

    init(
        _ behaviour: StrictFrameSink.Behaviour, wakeHandle: UInt64, findings: Findings,
        take: @escaping @Sendable (PluginPointer, Fingerprint) -> Void
    ) {
        self.behaviour = behaviour
        self.findings = findings
        self.take = take
        memory = .allocate(capacity: 1)
        memory.initialize(to: Layout(head: chanserv_source_sink(), context: .passUnretained(self)))
        memory.pointee.head.struct_size = UInt32(MemoryLayout<chanserv_source_sink>.size)
        memory.pointee.head.wake = wakeHandle
        memory.pointee.head.add = { sink, header, size, source in
            guard let sink else { return chanserv_status(CHANSERV_ERROR_BAD_REQUEST) }
            return UnsafeMutableRawPointer(sink).assumingMemoryBound(to: Layout.self).pointee.context
                .takeUnretainedValue().add(header, size, source)
        }
    }

    deinit { memory.deallocate() }

    /// Lends the sink for one poll, through memory of `lender`.
    func lend(
        _ lender: Lender, _ poll: (UnsafeMutablePointer<chanserv_source_sink>) -> chanserv_status
    ) -> chanserv_status {
        count = 0
        wasFull = false
        refusedSize = false
        isFullNow = behaviour.isFullEveryOtherPoll && polls % 2 == 0
        polls += 1
        isOpen = true
        defer { isOpen = false }
        guard lender.rule != .plain else {
            return poll(UnsafeMutableRawPointer(memory).assumingMemoryBound(to: chanserv_source_sink.self))
        }
        let loan = lender.lend(MemoryLayout<Layout>.size, isStruct: true)
        defer { lender.end(loan) }
        loan.start.copyMemory(from: memory, byteCount: MemoryLayout<Layout>.size)
        return poll(loan.start.assumingMemoryBound(to: chanserv_source_sink.self))
    }

    private func add(_ header: UnsafeRawPointer?, _ size: Int, _ source: OpaquePointer?) -> chanserv_status {
        guard isOpen else {
            findings.saw(.sink, "add was called on a sink whose poll had returned")
            return chanserv_status(CHANSERV_ERROR_BAD_REQUEST)
        }
        guard size >= 0, size <= 104_857_600, !behaviour.isEverythingTooLarge else {
            refusedSize = true
            return chanserv_status(CHANSERV_ERROR_TOO_LARGE)
        }
        guard let source, header != nil || size == 0 else {
            findings.saw(.sink, "add was called with NULL as the \(source == nil ? "source" : "header")")
            return chanserv_status(CHANSERV_ERROR_BAD_REQUEST)
        }
        guard !isFullNow, count < behaviour.room else {
            wasFull = true
            return chanserv_status(CHANSERV_FULL)
        }
        count += 1
        take(PluginPointer(raw: source), Fingerprint(UnsafeRawBufferPointer(start: header, count: size)))
        return chanserv_status(CHANSERV_READY)
    }
}
