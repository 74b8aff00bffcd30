internal import NIOConcurrencyHelpers
internal import NIOCore

/// The deadlines of many waits. Hardly any of them is ever reached.
///
/// A timer of the event loop costs more than most waits take. So a far deadline is only written down, in a slot that is used
/// again for later waits. Once a second the slots are looked through, and only what is due soon gets a timer.
final class Deadlines: Sendable {
    /// Time between two looks at the slots: 1 s.
    private static let interval = TimeAmount.seconds(1)
    /// A deadline within this time gets a timer at once: 1.5 s.
    private static let soon = TimeAmount.milliseconds(1_500)
    /// Time until an expired wait is looked for again whose waiter is not in its place: 5 ms.
    private static let retry = TimeAmount.milliseconds(5)
    /// The memory of more free slots than this is returned as soon as no slot is used.
    private static let keptSlots = 1_024

    /// The number of a slot.
    typealias Slot = UInt32

    private struct Entry {
        var deadline: NIODeadline
        /// `nil` while the slot is free.
        var place: (any WaitPlace)?
        /// The number of the wait in its place.
        var wait: UInt32
        /// Distinguishes this use of the slot from others, for a timer that comes late.
        var use: UInt64
        var hasTimer: Bool
    }

    private struct Inside {
        var entries: [Entry] = []
        var free: [Slot] = []
        var lastUse: UInt64 = 0
        var isWatched = false

        var isEmpty: Bool { free.count == entries.count }

        mutating func add(_ entry: Entry) -> Slot {
            if let slot = free.popLast() {
                entries[Int(slot)] = entry
                return slot
            }
            entries.append(entry)
            return Slot(entries.count - 1)
        }

        /// - Returns: what the slot held, to be released outside the lock.
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

        /// Whether the slot still belongs to this use of it.
        func isUsed(_ slot: Slot, by use: UInt64) -> Bool {
            Int(slot) < entries.count && entries[Int(slot)].use == use && entries[Int(slot)].place != nil
        }
    }

    private let eventLoop: any EventLoop
    private let inside = NIOLockedValueBox(Inside())

    init(on eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
    }

    /// Ends the wait `wait` of `place` on the event loop at `deadline`, unless ``remove(_:)`` is called before.
    func add(_ place: some WaitPlace, _ wait: UInt32, at deadline: NIODeadline) -> Slot {
        let isSoon = deadline - eventLoop.now <= Self.soon
        let (slot, use, begins) = inside.withLockedValue { inside -> (Slot, UInt64, Bool) in
            inside.lastUse += 1
            let slot = inside.add(
                Entry(deadline: deadline, place: place, wait: wait, use: inside.lastUse, hasTimer: isSoon))
            guard !isSoon, !inside.isWatched else { return (slot, inside.lastUse, false) }
            inside.isWatched = true
            return (slot, inside.lastUse, true)
        }
        if isSoon { schedule(slot, use, at: deadline) }
        if begins { lookAgain() }
        return slot
    }

    /// The wait is over. Called once for each slot.
    func remove(_ slot: Slot) {
        let place = inside.withLockedValue { $0.remove(slot) }
        withExtendedLifetime(place) {}
    }

    private func schedule(_ slot: Slot, _ use: UInt64, at deadline: NIODeadline) {
        eventLoop.scheduleTask(deadline: deadline) { self.expire(slot, use) }
    }

    private func expire(_ slot: Slot, _ use: UInt64) {
        let expired = inside.withLockedValue { inside -> (place: any WaitPlace, wait: UInt32)? in
            guard inside.isUsed(slot, by: use), let place = inside.entries[Int(slot)].place else { return nil }
            return (place, inside.entries[Int(slot)].wait)
        }
        guard let expired else { return }
        if let waiter = expired.place.takeWaiter(expired.wait) { return waiter.resume(.expired) }
        // Another thread has not put the waiter into its place yet, or has just taken it out.
        schedule(slot, use, at: eventLoop.now + Self.retry)
    }

    private func lookAgain() {
        eventLoop.scheduleTask(in: Self.interval) { self.look() }
    }

    private func look() {
        let soon = eventLoop.now + Self.soon
        let (due, isOver) = inside.withLockedValue { inside in
            var due: [(Slot, UInt64, NIODeadline)] = []
            for index in inside.entries.indices {
                let entry = inside.entries[index]
                guard entry.place != nil, !entry.hasTimer, entry.deadline <= soon else { continue }
                inside.entries[index].hasTimer = true
                due.append((Slot(index), entry.use, entry.deadline))
            }
            inside.isWatched = !inside.isEmpty
            return (due, inside.isEmpty)
        }
        for (slot, use, deadline) in due { schedule(slot, use, at: deadline) }
        if !isOver { lookAgain() }
    }
}
