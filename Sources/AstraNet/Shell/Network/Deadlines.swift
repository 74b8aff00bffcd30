internal import NIOConcurrencyHelpers
internal import NIOCore

/// The deadlines of many waits, of which few are ever reached.
///
/// A timer of the event loop costs more than most waits take. Therefore a distant deadline is only stored, in a
/// reusable slot. A scan once a second creates timers for the deadlines that are near.
final class Deadlines: Sendable {
    /// Time between two scans of the slots (1 s).
    private static let scanInterval = TimeAmount.seconds(1)
    /// Maximum time to a deadline that gets a timer at once (1.5 s).
    private static let timerHorizon = TimeAmount.milliseconds(1_500)
    /// Delay before an expired wait is retried whose waiter was not in its place (5 ms).
    private static let retryDelay = TimeAmount.milliseconds(5)
    /// Maximum number of slots whose memory is kept while no slot is in use.
    private static let keptSlots = 1_024

    /// Index of a slot.
    typealias Slot = UInt32

    private struct Entry {
        var deadline: NIODeadline
        /// Place of the waiter; `nil` while the slot is free.
        var place: (any WaitPlace)?
        /// ID of the waiter in its place.
        var wait: UInt32
        /// Number that distinguishes this use of the slot from others, so that a late timer is ignored.
        var use: UInt64
        var hasTimer: Bool
    }

    private struct State {
        var entries: [Entry] = []
        var free: [Slot] = []
        var lastUse: UInt64 = 0
        var isScanScheduled = false

        var isEmpty: Bool { free.count == entries.count }

        mutating func add(_ entry: Entry) -> Slot {
            if let slot = free.popLast() {
                entries[Int(slot)] = entry
                return slot
            }
            entries.append(entry)
            return Slot(entries.count - 1)
        }

        /// Frees a slot.
        ///
        /// - Returns: the place that the slot held. The caller releases it outside the lock.
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

        /// Returns whether the slot still has this use number.
        func isUsed(_ slot: Slot, by use: UInt64) -> Bool {
            Int(slot) < entries.count && entries[Int(slot)].use == use && entries[Int(slot)].place != nil
        }
    }

    private let eventLoop: any EventLoop
    private let state = NIOLockedValueBox(State())

    init(on eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
    }

    /// Adds a deadline: the wait with ID `wait` in `place` expires at `deadline`, on the event loop, unless
    /// ``remove(_:)`` is called before.
    func add(_ place: some WaitPlace, _ wait: UInt32, at deadline: NIODeadline) -> Slot {
        let isNear = deadline - eventLoop.now <= Self.timerHorizon
        let (slot, use, needsScan) = state.withLockedValue { state -> (Slot, UInt64, Bool) in
            state.lastUse += 1
            let slot = state.add(
                Entry(deadline: deadline, place: place, wait: wait, use: state.lastUse, hasTimer: isNear))
            guard !isNear, !state.isScanScheduled else { return (slot, state.lastUse, false) }
            state.isScanScheduled = true
            return (slot, state.lastUse, true)
        }
        if isNear { schedule(slot, use, at: deadline) }
        if needsScan { scheduleScan() }
        return slot
    }

    /// Frees the slot of a wait that is over. Called once for each slot.
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
        schedule(slot, use, at: eventLoop.now + Self.retryDelay)
    }

    private func scheduleScan() {
        eventLoop.scheduleTask(in: Self.scanInterval) { self.scan() }
    }

    private func scan() {
        let horizon = eventLoop.now + Self.timerHorizon
        let (due, isEmpty) = state.withLockedValue { state in
            var due: [(Slot, UInt64, NIODeadline)] = []
            for index in state.entries.indices {
                let entry = state.entries[index]
                guard entry.place != nil, !entry.hasTimer, entry.deadline <= horizon else { continue }
                state.entries[index].hasTimer = true
                due.append((Slot(index), entry.use, entry.deadline))
            }
            state.isScanScheduled = !state.isEmpty
            return (due, state.isEmpty)
        }
        for (slot, use, deadline) in due { schedule(slot, use, at: deadline) }
        if !isEmpty { scheduleScan() }
    }
}
