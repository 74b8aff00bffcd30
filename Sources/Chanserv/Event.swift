import NIOConcurrencyHelpers

/// A signal that one task at a time can wait for.
///
/// A signal without a waiting task is stored, at most one. A task that checks its state, finds nothing and then waits
/// therefore misses no signal. It must check its state again after each wait.
package final class Event: Sendable {
    /// Why a wait ended.
    package enum Outcome: Sendable {
        case signalled
        case expired
        case cancelled
    }

    private struct Storage {
        var signalled = false
        /// The suspended task. Code that removes it under the lock must resume it. The continuation is unchecked
        /// because a checked one makes each wait slower.
        var waiter: UnsafeContinuation<Outcome, Never>?
        /// The number of the current wait. A timer that fires late belongs to an older one.
        var waits: UInt64 = 0
        /// The wait whose deadline passed before its task was suspended.
        var expiredEarly: UInt64?
    }

    private let storage = NIOLockedValueBox(Storage())

    package init() {}

    /// Wakes the waiting task, or the next task that waits.
    package func signal() {
        let waiter = storage.withLockedValue { storage in
            let waiter = storage.waiter.take()
            storage.signalled = waiter == nil
            return waiter
        }
        waiter?.resume(returning: .signalled)
    }

    /// Waits for a signal, the deadline (`nil` for none) or the cancellation of the task.
    ///
    /// - Parameter surroundings: the clock of the deadline.
    package nonisolated(nonsending) func wait(
        deadline: ContinuousClock.Instant? = nil, _ surroundings: NetworkEnvironment = .system
    ) async -> Outcome {
        let number = storage.withLockedValue { storage -> UInt64? in
            if storage.signalled {
                storage.signalled = false
                return nil
            }
            storage.waits += 1
            return storage.waits
        }
        guard let number else { return Task.isCancelled ? .cancelled : .signalled }
        let cancelAlarm = deadline.map { deadline in
            surroundings.schedule(deadline) { self.end(wait: number, .expired) }
        }
        defer { cancelAlarm?() }
        return await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                let outcome = storage.withLockedValue { storage -> Outcome? in
                    if Task.isCancelled { return .cancelled }
                    if storage.signalled {
                        storage.signalled = false
                        return .signalled
                    }
                    if storage.expiredEarly == number { return .expired }
                    precondition(storage.waiter == nil, "two tasks wait for the same thing")
                    storage.waiter = continuation
                    return nil
                }
                if let outcome { continuation.resume(returning: outcome) }
            }
        } onCancel: {
            end(wait: number, .cancelled)
        }
    }

    private func end(wait number: UInt64, _ outcome: Outcome) {
        let waiter = storage.withLockedValue { storage -> UnsafeContinuation<Outcome, Never>? in
            guard storage.waits == number else { return nil }
            if storage.waiter == nil, case .expired = outcome { storage.expiredEarly = number }
            return storage.waiter.take()
        }
        waiter?.resume(returning: outcome)
    }
}
