internal import NIOCore

/// A task that waits for one event of a stream, a listener or the registry, until a deadline or its cancellation.
///
/// A waiter is stored under the owner's lock and resumed outside it, once, by whoever took it out.
struct Waiter<Value: Sendable>: Sendable {
    /// Tells this wait from earlier and later ones of the same owner, for a deadline or a cancellation that comes late.
    let id: UInt64
    /// Unchecked: a checked one is an opaque type, whose every copy costs a look-up at run time. That it is resumed once comes
    /// from the owner's lock: whoever takes the waiter out resumes it.
    private let continuation: UnsafeContinuation<Value, any Error>
    /// Of the wait's deadline, where it has one.
    private let alarm: Alarm?

    init(id: UInt64, continuation: UnsafeContinuation<Value, any Error>, alarm: Alarm?) {
        self.id = id
        self.continuation = continuation
        self.alarm = alarm
    }

    /// Ends the wait.
    func resume(with result: Result<Value, any Error>) {
        alarm?.switchOff()
        continuation.resume(with: result)
    }
}

/// Waits under one protocol for all owners: `install` puts the waiter in place (or answers at once), `remove` takes it
/// out if it is still there.
///
/// - Parameters:
///   - id: the wait's number.
///   - deadlines: where the deadline is kept.
///   - deadline: when to give up, `nil` for never.
///   - timeoutMessage: what the error says then.
///   - install: called once, holding no lock; returns the result if there is one already, in which case the waiter was
///     not put in place.
///   - remove: takes the waiter out if it is still in place.
func waitForEvent<Value: Sendable>(
    id: UInt64, within deadlines: Deadlines, until deadline: NIODeadline?,
    timeoutMessage: @escaping @Sendable () -> String,
    install: @Sendable (Waiter<Value>) -> Result<Value, any Error>?,
    remove: @escaping @Sendable (UInt64) -> Waiter<Value>?
) async throws -> Value {
    try await withTaskCancellationHandler {
        try await withUnsafeThrowingContinuation { (continuation: UnsafeContinuation<Value, any Error>) in
            let alarm = deadline.map { _ in Alarm() }
            let waiter = Waiter(id: id, continuation: continuation, alarm: alarm)
            if let result = install(waiter) {
                waiter.resume(with: result)
                return
            }
            // A cancellation before the waiter was in place found nothing to remove.
            if Task.isCancelled {
                remove(id)?.resume(with: .failure(CancellationError()))
                return
            }
            guard let deadline, let alarm else { return }
            deadlines.add(alarm, at: deadline) {
                remove(id)?.resume(with: .failure(AstraNetError(.deadlineExceeded, timeoutMessage())))
            }
        }
    } onCancel: {
        remove(id)?.resume(with: .failure(CancellationError()))
    }
}
