import NIOConcurrencyHelpers

/// Where one task at a time waits for another to make something happen.
///
/// A signal that finds nobody waiting is remembered, once. So a task that looks at its state, finds nothing and then
/// waits cannot miss what comes in between; it looks again after each wait.
final class Event: Sendable {
    /// Why a wait ended.
    enum Outcome: Sendable {
        case signalled
        case expired
        case cancelled
    }

    private struct Inside {
        var signalled = false
        /// Unchecked, which a wait costs less with: whoever takes it out, under the lock, resumes it, and nobody else.
        var waiter: UnsafeContinuation<Outcome, Never>?
        /// Tells one wait from the next, for an alarm that rings late.
        var waits: UInt64 = 0
        /// The wait whose alarm rang before its task was suspended.
        var expiredEarly: UInt64?
    }

    private let inside = NIOLockedValueBox(Inside())

    /// Wakes the task that waits, or the next one to wait.
    func signal() {
        let waiter = inside.withLockedValue { inside in
            let waiter = inside.waiter.take()
            inside.signalled = waiter == nil
            return waiter
        }
        waiter?.resume(returning: .signalled)
    }

    /// Waits for a signal, the deadline (`nil` is never) or the task's cancellation.
    ///
    /// - Parameter surroundings: the clock of the deadline.
    nonisolated(nonsending) func wait(
        deadline: ContinuousClock.Instant? = nil, _ surroundings: NetworkSurroundings = .system
    ) async -> Outcome {
        let number = inside.withLockedValue { inside -> UInt64? in
            if inside.signalled {
                inside.signalled = false
                return nil
            }
            inside.waits += 1
            return inside.waits
        }
        guard let number else { return Task.isCancelled ? .cancelled : .signalled }
        let cancelAlarm = deadline.map { deadline in
            surroundings.schedule(deadline) { self.end(wait: number, .expired) }
        }
        defer { cancelAlarm?() }
        return await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                let outcome = inside.withLockedValue { inside -> Outcome? in
                    if Task.isCancelled { return .cancelled }
                    if inside.signalled {
                        inside.signalled = false
                        return .signalled
                    }
                    if inside.expiredEarly == number { return .expired }
                    precondition(inside.waiter == nil, "two tasks wait for the same thing")
                    inside.waiter = continuation
                    return nil
                }
                if let outcome { continuation.resume(returning: outcome) }
            }
        } onCancel: {
            end(wait: number, .cancelled)
        }
    }

    private func end(wait number: UInt64, _ outcome: Outcome) {
        let waiter = inside.withLockedValue { inside -> UnsafeContinuation<Outcome, Never>? in
            guard inside.waits == number else { return nil }
            if inside.waiter == nil, case .expired = outcome { inside.expiredEarly = number }
            return inside.waiter.take()
        }
        waiter?.resume(returning: outcome)
    }
}
