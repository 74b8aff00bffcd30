internal import CChanservPlugin
internal import PluginRuntime

/// A `struct chanserv_source_sink` that accepts the sources of one call, with as little room as the case asks for.
///
/// `@unchecked Sendable`: polls of one call never overlap, and each begins and ends under the lock of the exchange.
final class StrictSourceSink: @unchecked Sendable {
    private let memory: UnsafeMutablePointer<chanserv_source_sink>
    /// The behaviour of the sink; its room is a number of sources.
    private let behaviour: StrictFrameSink.Behaviour
    private let findings: Findings
    /// Called for each accepted source, before add returns.
    private let take: @Sendable (PluginPointer, Fingerprint) -> Void
    private var isOpen = false
    private var polls = 0
    private var isFullNow = false

    /// Number of sources that were accepted in this poll.
    private(set) var count = 0
    /// Whether something was refused as full in this poll.
    private(set) var wasFull = false
    /// Whether something was refused as too large in this poll.
    private(set) var refusedSize = false

    init(
        _ behaviour: StrictFrameSink.Behaviour, wakeHandle: UInt64, findings: Findings,
        take: @escaping @Sendable (PluginPointer, Fingerprint) -> Void
    ) {
        self.behaviour = behaviour
        self.findings = findings
        self.take = take
        memory = .allocate(capacity: 1)
        memory.initialize(to: chanserv_source_sink())
        memory.pointee.struct_size = UInt32(MemoryLayout<chanserv_source_sink>.size)
        memory.pointee.wake = wakeHandle
        memory.pointee.context = Unmanaged.passUnretained(self).toOpaque()
        memory.pointee.add = { sink, header, size, source in
            StrictSourceSink.of(sink)?.add(header, size, source) ?? chanserv_status(CHANSERV_ERROR_BAD_REQUEST)
        }
    }

    deinit { memory.deallocate() }

    private static func of(_ sink: UnsafeMutablePointer<chanserv_source_sink>?) -> StrictSourceSink? {
        guard let sink else { return nil }
        guard sink.pointee.struct_size > UInt32(Sinks10.sourceSinkSize) else {
            return Sinks10.owner(of: sink) as? StrictSourceSink
        }
        return Unmanaged<StrictSourceSink>.fromOpaque(sink.pointee.context).takeUnretainedValue()
    }

    /// Provides the sink for one poll, in memory of the plugin's lender.
    func lend(
        _ plugin: TestedPlugin, _ poll: (UnsafeMutablePointer<chanserv_source_sink>) -> chanserv_status
    ) -> chanserv_status {
        count = 0
        wasFull = false
        refusedSize = false
        isFullNow = behaviour.isFullEveryOtherPoll && polls % 2 == 0
        polls += 1
        isOpen = true
        defer { isOpen = false }
        let lender = plugin.lender
        if plugin.isVersion10 {
            memory.pointee.struct_size = UInt32(Sinks10.sourceSinkSize)
            return Sinks10.lend(memory.pointee, size: Sinks10.sourceSinkSize, of: self, lender, poll)
        }
        guard lender.rule != .plain else { return poll(memory) }
        let size = MemoryLayout<chanserv_source_sink>.size
        let loan = lender.lend(size, isStruct: true)
        defer { lender.end(loan) }
        loan.start.copyMemory(from: memory, byteCount: size)
        return poll(loan.start.assumingMemoryBound(to: chanserv_source_sink.self))
    }

    private func add(_ header: UnsafeRawPointer?, _ size: Int, _ source: OpaquePointer?) -> chanserv_status {
        guard isOpen else {
            findings.record(.sink, "add was called on a sink whose poll had returned")
            return chanserv_status(CHANSERV_ERROR_BAD_REQUEST)
        }
        guard size >= 0, size <= 104_857_600, !behaviour.isEverythingTooLarge else {
            refusedSize = true
            return chanserv_status(CHANSERV_ERROR_TOO_LARGE)
        }
        guard let source, header != nil || size == 0 else {
            findings.record(.sink, "add was called with NULL as the \(source == nil ? "source" : "header")")
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
