internal import NIOConcurrencyHelpers
internal import NIOCore
internal import Synchronization

/// The deadlines of many waits, of which hardly any is ever reached.
///
/// A timer of the event loop costs more than most waits take. So a deadline that is far off is only written down; once a
/// second the list is looked through, what is over by then is dropped, and only what is due soon gets a timer.
final class Deadlines: Sendable {
    /// Between two looks at the list.
    private static let interval = TimeAmount.seconds(1)
    /// What is due within this time gets a timer at once.
    private static let soon = TimeAmount.milliseconds(1_500)

    private struct Entry: Sendable {
        let deadline: NIODeadline
        let alarm: Alarm
    }

    private struct Inside {
        var entries: [Entry] = []
        var isWatched = false
    }

    private let eventLoop: any EventLoop
    private let inside = NIOLockedValueBox(Inside())

    init(on eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
    }

    /// Calls `expire` on the event loop at `deadline`, unless `alarm` is switched off before.
    func add(_ alarm: Alarm, at deadline: NIODeadline, expire: @escaping @Sendable () -> Void) {
        guard alarm.switchOn(expire) else { return }
        let entry = Entry(deadline: deadline, alarm: alarm)
        if deadline - eventLoop.now <= Self.soon { return schedule(entry) }
        let begins = inside.withLockedValue { inside in
            inside.entries.append(entry)
            defer { inside.isWatched = true }
            return !inside.isWatched
        }
        if begins { lookAgain() }
    }

    private func schedule(_ entry: Entry) {
        eventLoop.scheduleTask(deadline: entry.deadline) {
            entry.alarm.ring()
        }
    }

    private func lookAgain() {
        eventLoop.scheduleTask(in: Self.interval) { self.look() }
    }

    private func look() {
        let soon = eventLoop.now + Self.soon
        let (due, isOver) = inside.withLockedValue { inside in
            var due: [Entry] = []
            inside.entries.removeAll { entry in
                guard entry.alarm.isOn else { return true }
                guard entry.deadline <= soon else { return false }
                due.append(entry)
                return true
            }
            inside.isWatched = !inside.entries.isEmpty
            return (due, inside.entries.isEmpty)
        }
        for entry in due { schedule(entry) }
        if !isOver { lookAgain() }
    }
}

/// Whether a deadline still matters to somebody, and what happens at it.
///
/// What the closure holds is given back as soon as it does not: a look at the list is far off for who waits a hundred thousand
/// times a second.
final class Alarm: Sendable {
    private static let new: UInt8 = 0
    private static let on: UInt8 = 1
    private static let off: UInt8 = 2

    private let state = Atomic<UInt8>(Alarm.new)
    /// Unsafe for the compiler, which does not know that before ``on`` only ``switchOn(_:)`` touches it, and afterwards only
    /// whoever made that ``off``.
    @exclusivity(unchecked) private nonisolated(unsafe) var expire: (@Sendable () -> Void)?

    var isOn: Bool { state.load(ordering: .relaxed) == Self.on }

    /// - Returns: `false` where it was switched off already.
    func switchOn(_ expire: @escaping @Sendable () -> Void) -> Bool {
        self.expire = expire
        if state.compareExchange(expected: Self.new, desired: Self.on, ordering: .acquiringAndReleasing).exchanged {
            return true
        }
        self.expire = nil
        return false
    }

    func switchOff() {
        _ = takeExpire()
    }

    /// The deadline has come.
    func ring() {
        takeExpire()?()
    }

    private func takeExpire() -> (@Sendable () -> Void)? {
        guard state.exchange(Self.off, ordering: .acquiringAndReleasing) == Self.on else { return nil }
        defer { expire = nil }
        return expire
    }
}
