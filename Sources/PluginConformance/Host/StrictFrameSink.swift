internal import CChanservPlugin
internal import Glibc
internal import PluginRuntime

/// A `struct chanserv_frame_sink` that accepts the frames of one source, with as little room as the case asks for.
///
/// `@unchecked Sendable`: polls of one source never overlap, and each begins and ends under the lock of the exchange.
final class StrictFrameSink: @unchecked Sendable {
    /// The behaviour of the sink.
    struct Behaviour: Sendable {
        /// Number of frames of a poll after which the sink is full.
        var room = 64
        /// Whether the sink is full from the start in every other poll, as if other frames were in the batch.
        var isFullEveryOtherPoll = false
        /// Whether every element is refused as too large.
        var isEverythingTooLarge = false
        /// Whether every other lend is refused as full. Other functions are not affected.
        var refusesEveryOtherLend = false
        /// When lent frames are released.
        var releases = Release.afterPoll
    }

    enum Release: Sendable {
        /// Before lend returns.
        case atOnce
        case afterPoll
        /// After all objects of the exchange are closed.
        case afterClose
    }

    private struct Reservation {
        let memory: UnsafeMutableRawPointer
        let capacity: Int
    }

    private let memory: UnsafeMutablePointer<chanserv_frame_sink>
    private let behaviour: Behaviour
    private let findings: Findings
    private var isOpen = false
    private var polls = 0
    private var isFullNow = false
    private var reservation: Reservation?
    /// Reservations that were enlarged. They are freed after the poll, so that a write to an old address is harmless.
    private var replacedReservations: [UnsafeMutableRawPointer] = []

    /// Frames that were lent in this poll, to be released after it.
    private var leases: [TestedLeases.Lease] = []
    private var lends = 0

    /// The frames that were accepted in this poll.
    private(set) var frames: [Fingerprint] = []
    /// Whether something was refused as full in this poll.
    private(set) var wasFull = false
    /// Whether something was refused as too large in this poll.
    private(set) var refusedSize = false

    private static let canary = [UInt8](repeating: 0xC5, count: 64)

    init(_ behaviour: Behaviour, wakeHandle: UInt64, findings: Findings) {
        self.behaviour = behaviour
        self.findings = findings
        memory = .allocate(capacity: 1)
        memory.initialize(to: chanserv_frame_sink())
        memory.pointee.struct_size = UInt32(MemoryLayout<chanserv_frame_sink>.size)
        memory.pointee.wake = wakeHandle
        memory.pointee.context = Unmanaged.passUnretained(self).toOpaque()
        memory.pointee.lend = { sink, data, size, release, argument in
            StrictFrameSink.of(sink)?.lend(data, size, release, argument)
                ?? chanserv_status(CHANSERV_ERROR_BAD_REQUEST)
        }
        memory.pointee.append = { sink, data, size in
            StrictFrameSink.of(sink)?.append(data, size) ?? chanserv_status(CHANSERV_ERROR_BAD_REQUEST)
        }
        memory.pointee.reserve = { sink, minimum, capacity in
            StrictFrameSink.of(sink)?.reserve(minimum, capacity)
        }
        memory.pointee.commit = { sink, size in
            StrictFrameSink.of(sink)?.commit(size) ?? chanserv_status(CHANSERV_ERROR_BAD_REQUEST)
        }
    }

    deinit { memory.deallocate() }

    private static func of(_ sink: UnsafeMutablePointer<chanserv_frame_sink>?) -> StrictFrameSink? {
        guard let sink else { return nil }
        guard sink.pointee.struct_size > UInt32(Sinks10.frameSinkSize) else {
            return Sinks10.owner(of: sink) as? StrictFrameSink
        }
        return Unmanaged<StrictFrameSink>.fromOpaque(sink.pointee.context).takeUnretainedValue()
    }

    /// Provides the sink for one poll, in memory of the plugin's lender.
    ///
    /// - Parameter kept: receives the frames that are released after everything is closed.
    func lend(
        _ plugin: TestedPlugin, _ kept: TestedLeases,
        _ poll: (UnsafeMutablePointer<chanserv_frame_sink>) -> chanserv_status
    ) -> chanserv_status {
        frames = []
        wasFull = false
        refusedSize = false
        isFullNow = behaviour.isFullEveryOtherPoll && polls % 2 == 0
        polls += 1
        isOpen = true
        defer {
            isOpen = false
            freeReservations()
            for lease in leases {
                if behaviour.releases == .afterClose { kept.add(lease) } else { lease.end(plugin) }
            }
            leases = []
        }
        let lender = plugin.lender
        if plugin.isVersion10 {
            memory.pointee.struct_size = UInt32(Sinks10.frameSinkSize)
            return Sinks10.lend(memory.pointee, size: Sinks10.frameSinkSize, of: self, lender, poll)
        }
        guard lender.rule != .plain else { return poll(memory) }
        let size = MemoryLayout<chanserv_frame_sink>.size
        let loan = lender.lend(size, isStruct: true)
        defer { lender.end(loan) }
        loan.start.copyMemory(from: memory, byteCount: size)
        return poll(loan.start.assumingMemoryBound(to: chanserv_frame_sink.self))
    }

    private func use(_ function: StaticString) -> Bool {
        if !isOpen { findings.record(.sink, "\(function) was called on a sink whose poll had returned") }
        return isOpen
    }

    private var isFull: Bool { isFullNow || frames.count >= behaviour.room }

    private func lend(
        _ data: UnsafeRawPointer?, _ size: Int, _ release: TestedLeases.Lease.Release?,
        _ argument: UnsafeMutableRawPointer?
    ) -> chanserv_status {
        guard use("lend") else { return chanserv_status(CHANSERV_ERROR_BAD_REQUEST) }
        guard let release else {
            findings.record(.sink, "lend was called with NULL as the function that releases the frame")
            return chanserv_status(CHANSERV_ERROR_BAD_REQUEST)
        }
        lends += 1
        // Only after other frames: an empty sink accepts every frame.
        if behaviour.refusesEveryOtherLend, lends % 2 == 0, !frames.isEmpty {
            wasFull = true
            return chanserv_status(CHANSERV_FULL)
        }
        let status = append(data, size)
        guard status == CHANSERV_READY, let fingerprint = frames.last else { return status }
        let bytes = UnsafeRawBufferPointer(start: data, count: size)
        let lease = TestedLeases.Lease(bytes: bytes, fingerprint: fingerprint, release: release, argument: argument)
        if behaviour.releases == .atOnce { release(argument) } else { leases.append(lease) }
        return status
    }

    private func append(_ data: UnsafeRawPointer?, _ size: Int) -> chanserv_status {
        guard use("append") else { return chanserv_status(CHANSERV_ERROR_BAD_REQUEST) }
        guard size >= 0, size <= 104_857_600, !behaviour.isEverythingTooLarge else {
            refusedSize = true
            return chanserv_status(CHANSERV_ERROR_TOO_LARGE)
        }
        guard data != nil || size == 0 else {
            findings.record(.sink, "append was called with NULL as a frame of \(size) bytes")
            return chanserv_status(CHANSERV_ERROR_BAD_REQUEST)
        }
        guard !isFull else {
            wasFull = true
            return chanserv_status(CHANSERV_FULL)
        }
        frames.append(Fingerprint(UnsafeRawBufferPointer(start: data, count: size)))
        return chanserv_status(CHANSERV_READY)
    }

    /// Returns exactly `minimum` bytes, always at a new address.
    private func reserve(_ minimum: Int, _ capacity: UnsafeMutablePointer<Int>?) -> UnsafeMutableRawPointer? {
        guard use("reserve") else { return nil }
        // NULL means full or too large, and only the request itself shows which. So reserve succeeds even if everything
        // is too large, and commit refuses.
        guard minimum >= 0, minimum <= 104_857_600 else {
            refusedSize = true
            return nil
        }
        if capacity == nil { findings.record(.sink, "reserve was called with NULL for the capacity") }
        guard !isFull else {
            wasFull = true
            return nil
        }
        let room = max(minimum, 1)
        let memory = malloc(room + Self.canary.count)!
        memset(memory, 0xA5, room)
        Self.canary.withUnsafeBytes { (memory + room).copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        if let old = reservation {
            checkCanary(of: old)
            memory.copyMemory(from: old.memory, byteCount: min(room, old.capacity))
            memset(old.memory, 0xDD, old.capacity)
            replacedReservations.append(old.memory)
        }
        reservation = Reservation(memory: memory, capacity: room)
        capacity?.pointee = room
        return memory
    }

    private func commit(_ size: Int) -> chanserv_status {
        guard use("commit") else { return chanserv_status(CHANSERV_ERROR_BAD_REQUEST) }
        guard let reserved = reservation else {
            findings.record(.room, "commit was called without a reservation")
            return chanserv_status(CHANSERV_ERROR_BAD_REQUEST)
        }
        guard size >= 0, size <= reserved.capacity else {
            findings.record(.room, "commit of \(UInt(bitPattern: size)) bytes in a reservation of \(reserved.capacity)")
            return chanserv_status(CHANSERV_ERROR_BAD_REQUEST)
        }
        checkCanary(of: reserved)
        defer {
            free(reserved.memory)
            reservation = nil
        }
        guard !behaviour.isEverythingTooLarge else {
            refusedSize = true
            return chanserv_status(CHANSERV_ERROR_TOO_LARGE)
        }
        frames.append(Fingerprint(UnsafeRawBufferPointer(start: reserved.memory, count: size)))
        return chanserv_status(CHANSERV_READY)
    }

    private func checkCanary(of reserved: Reservation) {
        let behind = UnsafeRawBufferPointer(start: reserved.memory + reserved.capacity, count: Self.canary.count)
        guard !behind.elementsEqual(Self.canary) else { return }
        findings.record(.room, "bytes were written behind a reservation of \(reserved.capacity)")
    }

    private func freeReservations() {
        if let reserved = reservation {
            checkCanary(of: reserved)
            free(reserved.memory)
            reservation = nil
        }
        for memory in replacedReservations { free(memory) }
        replacedReservations = []
    }
}
