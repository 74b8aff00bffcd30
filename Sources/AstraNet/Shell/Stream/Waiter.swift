internal import NIOCore

/// The reason why a suspended task resumes.
enum WakeReason: Sendable {
    /// The awaited event may have occurred, so the task must check its condition again.
    case ready
    /// The awaited event cannot occur any more.
    case gone
    case expired
    case cancelled
}

/// A suspended task, stored under its owner's lock.
///
/// The code that removes a waiter from its place resumes it, once and outside the lock.
struct Waiter: Sendable {
    /// Continuation of the task. It is unsafe because a checked continuation costs a type look-up for each copy.
    ///
    /// It is resumed exactly once: only the code that removes the waiter from its place resumes it, and the owner's
    /// lock allows only one removal.
    private let continuation: UnsafeContinuation<WakeReason, Never>
    /// Store of the wait's deadline; `nil` if it has none.
    private let deadlines: Deadlines?
    private let slot: Deadlines.Slot
    /// ID that distinguishes this wait from other waits of the same owner, so that a late deadline or cancellation is
    /// ignored.
    ///
    /// IDs repeat after four billion waits. No deadline or cancellation is that late.
    let id: UInt32

    fileprivate init(
        id: UInt32, continuation: UnsafeContinuation<WakeReason, Never>, deadlines: Deadlines?, slot: Deadlines.Slot
    ) {
        self.id = id
        self.continuation = continuation
        self.deadlines = deadlines
        self.slot = slot
    }

    /// Resumes the task and removes the wait's deadline.
    func resume(_ reason: WakeReason = .ready) {
        deadlines?.remove(slot)
        continuation.resume(returning: reason)
    }
}

/// The place where a waiter is stored.
///
/// An implementation has at most three words, so that an existential stores it without an allocation.
protocol WaitPlace: Sendable {
    /// Stores the waiter under the owner's lock. Returns `false` if the task does not need to wait.
    func put(_ waiter: Waiter) -> Bool

    /// Removes and returns the waiter with this ID; `nil` if the place does not have it.
    func takeWaiter(_ id: UInt32) -> Waiter?
}

/// Suspends the task until its waiter is resumed, the deadline passes or the task is cancelled.
///
/// All tasks of this library wait with this function. After `ready` the caller must check its condition again.
///
/// - Parameters:
///   - place: the place where the waiter is stored. Its methods are called without a lock.
///   - id: the ID of the wait.
///   - deadlines: the store for the deadline.
///   - deadline: the time at which the wait ends with `expired`; `nil` for none.
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
