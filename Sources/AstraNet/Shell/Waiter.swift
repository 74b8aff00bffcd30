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
    /// Distinguishes this wait from earlier and later ones of the same owner, for a deadline or a cancellation that comes late.
    let id: UInt64
    /// Unsafe, because a checked continuation costs a type look-up for each copy. The owner's lock proves that it is resumed
    /// once: only the code that takes the waiter out of its place resumes it.
    private let continuation: UnsafeContinuation<WakeReason, Never>
    /// The deadline of the wait, if it has one.
    private let alarm: Alarm?

    init(id: UInt64, continuation: UnsafeContinuation<WakeReason, Never>, alarm: Alarm?) {
        self.id = id
        self.continuation = continuation
        self.alarm = alarm
    }

    /// Ends the wait.
    func resume(_ reason: WakeReason = .ready) {
        alarm?.switchOff()
        continuation.resume(returning: reason)
    }
}

/// Suspends the task until its waiter is resumed, the deadline passes or the task is cancelled.
///
/// This is the only way in which a task of this library waits. The caller looks at the state again when it returns `ready`.
///
/// - Parameters:
///   - id: the number of the wait.
///   - deadlines: where the deadline is kept.
///   - deadline: when to give up; `nil` for never.
///   - install: called once, with no lock held; puts the waiter in its place, or returns `false` if there is nothing to wait
///     for.
///   - remove: takes the waiter out if it is still in its place.
nonisolated(nonsending) func suspend(
    id: UInt64, within deadlines: Deadlines, until deadline: NIODeadline?, install: (Waiter) -> Bool,
    remove: @escaping @Sendable (UInt64) -> Waiter?
) async -> WakeReason {
    await withTaskCancellationHandler {
        await withUnsafeContinuation { (continuation: UnsafeContinuation<WakeReason, Never>) in
            let alarm = deadline.map { _ in Alarm() }
            let waiter = Waiter(id: id, continuation: continuation, alarm: alarm)
            guard install(waiter) else { return waiter.resume() }
            // A cancellation before the waiter was in its place found nothing to remove.
            if Task.isCancelled {
                remove(id)?.resume(.cancelled)
                return
            }
            guard let deadline, let alarm else { return }
            deadlines.add(alarm, at: deadline) { remove(id)?.resume(.expired) }
        }
    } onCancel: {
        remove(id)?.resume(.cancelled)
    }
}
