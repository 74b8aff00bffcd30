internal import NIOCore

/// Why a suspended task runs again.
enum WakeReason: Sendable {
    /// What it waits for may have happened: it looks again.
    case ready
    /// What it waits for cannot happen any more.
    case gone
    case expired
    case cancelled
}

/// A suspended task, stored under its owner's lock.
///
/// The code that takes it out of its place resumes it, once, outside the lock.
struct Waiter: Sendable {
    /// Unsafe, because a checked continuation costs a type look-up for each copy. The owner's lock proves that it is resumed
    /// once: only the code that takes the waiter out of its place resumes it.
    private let continuation: UnsafeContinuation<WakeReason, Never>
    /// Where the deadline of the wait is kept, if it has one.
    private let deadlines: Deadlines?
    private let slot: Deadlines.Slot
    /// Distinguishes this wait from earlier and later ones of the same owner, for a deadline or a cancellation that comes late.
    /// Numbers repeat after four billion waits; no deadline or cancellation is that late.
    let id: UInt32

    fileprivate init(
        id: UInt32, continuation: UnsafeContinuation<WakeReason, Never>, deadlines: Deadlines?, slot: Deadlines.Slot
    ) {
        self.id = id
        self.continuation = continuation
        self.deadlines = deadlines
        self.slot = slot
    }

    /// Ends the wait.
    func resume(_ reason: WakeReason = .ready) {
        deadlines?.remove(slot)
        continuation.resume(returning: reason)
    }
}

/// Where the waiter of a wait is stored. At most three words, so that a deadline holds it without an allocation.
protocol WaitPlace: Sendable {
    /// Stores the waiter, under the owner's lock; `false` if there is nothing to wait for any more.
    func put(_ waiter: Waiter) -> Bool

    /// Takes out the waiter of the wait `id`; `nil` if it is not there.
    func takeWaiter(_ id: UInt32) -> Waiter?
}

/// Suspends the task until its waiter is resumed, the deadline passes or the task is cancelled.
///
/// This is the only way in which a task of this library waits. The caller looks at the state again when it returns `ready`.
///
/// - Parameters:
///   - place: where the waiter is stored. Its methods are called with no lock held.
///   - id: the number of the wait.
///   - deadlines: where the deadline is kept.
///   - deadline: when to give up; `nil` for never.
nonisolated(nonsending) func suspend(
    in place: some WaitPlace, id: UInt32, within deadlines: Deadlines, until deadline: NIODeadline?
) async -> WakeReason {
    await withTaskCancellationHandler {
        await withUnsafeContinuation { (continuation: UnsafeContinuation<WakeReason, Never>) in
            let slot = deadline.map { deadlines.add(place, id, at: $0) }
            let waiter = Waiter(
                id: id, continuation: continuation, deadlines: slot == nil ? nil : deadlines, slot: slot ?? 0)
            guard place.put(waiter) else { return waiter.resume() }
            // A cancellation before the waiter was in its place found nothing to take out.
            if Task.isCancelled { place.takeWaiter(id)?.resume(.cancelled) }
        }
    } onCancel: {
        place.takeWaiter(id)?.resume(.cancelled)
    }
}
