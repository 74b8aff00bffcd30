internal import NIOCore

/// A task that waits for one event of a stream, a listener or the registry, until a deadline or its cancellation.
///
/// A waiter is stored under the owner's lock and resumed outside it, once, by whoever took it out.
struct Waiter<Value: Sendable>: Sendable {
    /// Tells this wait from earlier and later ones of the same owner, for a timer or a cancellation that comes late.
    let id: UInt64
    private let continuation: CheckedContinuation<Value, any Error>
    /// What ends the wait at its deadline.
    var timer: Scheduled<Void>?

    init(id: UInt64, continuation: CheckedContinuation<Value, any Error>) {
        self.id = id
        self.continuation = continuation
    }

    /// Ends the wait.
    func resume(with result: Result<Value, any Error>) {
        timer?.cancel()
        continuation.resume(with: result)
    }
}

/// Waits under one protocol for all owners: `install` puts the waiter in place (or answers at once), `remove` takes it
/// out if it is still there.
///
/// - Parameters:
///   - id: the wait's number.
///   - eventLoop: where the deadline's timer runs.
///   - deadline: when to give up, `nil` for never.
///   - timeoutMessage: what the error says then.
///   - install: called once, holding no lock; returns the result if there is one already, in which case the waiter was
///     not put in place.
///   - arm: stores the timer with the waiter if it is still in place, and says whether it was.
///   - remove: takes the waiter out if it is still in place.
func waitForEvent<Value: Sendable>(
    id: UInt64, on eventLoop: any EventLoop, deadline: NIODeadline?, timeoutMessage: String,
    install: @Sendable (Waiter<Value>) -> Result<Value, any Error>?,
    arm: @escaping @Sendable (UInt64, Scheduled<Void>) -> Bool,
    remove: @escaping @Sendable (UInt64) -> Waiter<Value>?
) async throws -> Value {
    try await withTaskCancellationHandler {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Value, any Error>) in
            let waiter = Waiter(id: id, continuation: continuation)
            if let result = install(waiter) {
                waiter.resume(with: result)
                return
            }
            // A cancellation before the waiter was in place found nothing to remove.
            if Task.isCancelled {
                remove(id)?.resume(with: .failure(CancellationError()))
                return
            }
            guard let deadline else { return }
            let timer = eventLoop.scheduleTask(deadline: deadline) { () -> Void in
                remove(id)?.resume(with: .failure(AstraNetError(.deadlineExceeded, timeoutMessage)))
            }
            if !arm(id, timer) { timer.cancel() }
        }
    } onCancel: {
        remove(id)?.resume(with: .failure(CancellationError()))
    }
}
