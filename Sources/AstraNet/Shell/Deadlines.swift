internal import NIOConcurrencyHelpers
internal import NIOCore

/// The deadlines of many waits. Very few of them are reached.
///
/// A timer of the event loop costs more than most waits last. So a distant deadline is only stored in a slot, and slots
/// are reused. The slots are scanned once a second, and only deadlines that are near get a timer.
final class Deadlines: Sendable {
    /// The time between two scans of the slots: 1 s.
    private static let interval = TimeAmount.seconds(1)
    /// A deadline nearer than this gets a timer at once: 1.5 s.
    private static let soon = TimeAmount.milliseconds(1_500)
    /// The time until an expired wait is checked again if its waiter was not in its place: 5 ms.
    private static let retry = TimeAmount.milliseconds(5)
    /// Above this number of slots their memory is freed when no slot is in use.
    private static let keptSlots = 1_024

    /// The number of a slot.
    typealias Slot = UInt32

    private struct Entry {
        var deadline: NIODeadline
        /// `nil` while the slot is free.
        var place: (any WaitPlace)?
        /// The number of the wait.
        var wait: UInt32
        /// Distinguishes this use of the slot from others, for a late timer.
        var use: UInt64
        var hasTimer: Bool
    }

    private struct State {
        var entries: [Entry] = []
        var free: [Slot] = []
        var lastUse: UInt64 = 0
        var isScanning = false

        var isEmpty: Bool { free.count == entries.count }

        mutating func add(_ entry: Entry) -> Slot {
            if let slot = free.popLast() {
                entries[Int(slot)] = entry
                return slot
            }
            entries.append(entry)
            return Slot(entries.count - 1)
        }

        /// - Returns: the content of the slot, which must be released outside the lock.
        mutating func remove(_ slot: Slot) -> (any WaitPlace)? {
            var place: (any WaitPlace)?
            swap(&place, &entries[Int(slot)].place)
            free.append(slot)
            if isEmpty, entries.count > Deadlines.keptSlots {
                entries = []
                free = []
            }
            return place
        }

        /// Whether the slot is still in the given use.
        func isUsed(_ slot: Slot, by use: UInt64) -> Bool {
            Int(slot) < entries.count && entries[Int(slot)].use == use && entries[Int(slot)].place != nil
        }
    }

    private let eventLoop: any EventLoop
    private let state = NIOLockedValueBox(State())

    init(on eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
    }

    /// Adds a deadline. When it passes, the wait `wait` of `place` ends on the event loop, unless ``remove(_:)`` is
    /// called first.
    func add(_ place: some WaitPlace, _ wait: UInt32, at deadline: NIODeadline) -> Slot {
        let isSoon = deadline - eventLoop.now <= Self.soon
        let (slot, use, startsScanning) = state.withLockedValue { state -> (Slot, UInt64, Bool) in
            state.lastUse += 1
            let slot = state.add(
                Entry(deadline: deadline, place: place, wait: wait, use: state.lastUse, hasTimer: isSoon))
            guard !isSoon, !state.isScanning else { return (slot, state.lastUse, false) }
            state.isScanning = true
            return (slot, state.lastUse, true)
        }
        if isSoon { schedule(slot, use, at: deadline) }
        if startsScanning { scheduleScan() }
        return slot
    }

    /// Removes the deadline of a wait that has ended. The caller must call it exactly once for each slot.
    func remove(_ slot: Slot) {
        let place = state.withLockedValue { $0.remove(slot) }
        withExtendedLifetime(place) {}
    }

    private func schedule(_ slot: Slot, _ use: UInt64, at deadline: NIODeadline) {
        eventLoop.scheduleTask(deadline: deadline) { self.expire(slot, use) }
    }

    private func expire(_ slot: Slot, _ use: UInt64) {
        let expired = state.withLockedValue { state -> (place: any WaitPlace, wait: UInt32)? in
            guard state.isUsed(slot, by: use), let place = state.entries[Int(slot)].place else { return nil }
            return (place, state.entries[Int(slot)].wait)
        }
        guard let expired else { return }
        if let waiter = expired.place.takeWaiter(expired.wait) { return waiter.resume(.expired) }
        // Another thread has not stored the waiter yet, or has just removed it.
        schedule(slot, use, at: eventLoop.now + Self.retry)
    }

    private func scheduleScan() {
        eventLoop.scheduleTask(in: Self.interval) { self.scan() }
    }

    private func scan() {
        let soon = eventLoop.now + Self.soon
        let (due, isDone) = state.withLockedValue { state in
            var due: [(Slot, UInt64, NIODeadline)] = []
            for index in state.entries.indices {
                let entry = state.entries[index]
                guard entry.place != nil, !entry.hasTimer, entry.deadline <= soon else { continue }
                state.entries[index].hasTimer = true
                due.append((Slot(index), entry.use, entry.deadline))
            }
            state.isScanning = !state.isEmpty
            return (due, state.isEmpty)
        }
        for (slot, use, deadline) in due { schedule(slot, use, at: deadline) }
        if !isDone { scheduleScan() }
    }
}
