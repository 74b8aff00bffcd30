internal import NIOCore

/// The reason why a suspended task resumes.
enum WakeReason: Sendable {
    /// The condition may be true now. The task checks it again.
    case ready
    /// The condition cannot become true any more.
    case gone
    case expired
    case cancelled
}

/// A suspended task, stored under its owner's lock.
///
/// The code that removes it from its place must resume it once, outside the lock.
struct Waiter: Sendable {
    /// Unsafe, because a checked continuation costs a type look-up for each copy. It is resumed exactly once: only the
    /// code that removes the waiter from its place, under the owner's lock, resumes it.
    private let continuation: UnsafeContinuation<WakeReason, Never>
    /// The deadlines that contain the deadline of the wait; `nil` if it has none.
    private let deadlines: Deadlines?
    private let slot: Deadlines.Slot
    /// Distinguishes this wait from other waits of the same owner, for a late deadline or cancellation. The numbers
    /// repeat after 2^32 waits, and no deadline or cancellation is that late.
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

/// The place where the waiter of a wait is stored. A place has at most three words, so that a deadline stores it
/// without an allocation.
protocol WaitPlace: Sendable {
    /// Stores the waiter under the owner's lock. Returns `false` if the task need not wait any more.
    func put(_ waiter: Waiter) -> Bool

    /// Removes and returns the waiter of the wait `id`; `nil` if it is not there.
    func takeWaiter(_ id: UInt32) -> Waiter?
}

/// Suspends the task until its waiter is resumed, the deadline passes or the task is cancelled.
///
/// This is the only way in which tasks of this library wait. When it returns `ready`, the caller must check its
/// condition again.
///
/// - Parameters:
///   - place: the place where the waiter is stored. Its methods are called with no lock held.
///   - id: the number of the wait.
///   - deadlines: the deadlines to which the deadline is added.
///   - deadline: the deadline of the wait; `nil` for none.
/// - Returns: the reason why the task resumes.
nonisolated(nonsending) func suspend(
    in place: some WaitPlace, id: UInt32, within deadlines: Deadlines, until deadline: NIODeadline?
) async -> WakeReason {
    await withTaskCancellationHandler {
        await withUnsafeContinuation { (continuation: UnsafeContinuation<WakeReason, Never>) in
            let slot = deadline.map { deadlines.add(place, id, at: $0) }
            let waiter = Waiter(
                id: id, continuation: continuation, deadlines: slot == nil ? nil : deadlines, slot: slot ?? 0)
            guard place.put(waiter) else { return waiter.resume() }
            // A cancellation before `put` found no waiter to resume.
            if Task.isCancelled { place.takeWaiter(id)?.resume(.cancelled) }
        }
    } onCancel: {
        place.takeWaiter(id)?.resume(.cancelled)
    }
}
