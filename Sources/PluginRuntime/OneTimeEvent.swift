internal import NIOConcurrencyHelpers

/// Event that happens once and can be awaited.
package final class OneTimeEvent: Sendable {
    private struct State {
        var hasHappened = false
        var waiters: [Int: UnsafeContinuation<Void, Never>] = [:]
        var waiterNumber = 0
    }

    private let state = NIOLockedValueBox(State())

    package init() {}

    package var hasHappened: Bool { state.withLockedValue { $0.hasHappened } }

    /// Marks the event as happened. Repeated calls have no effect.
    package func happened() {
        let waiters = state.withLockedValue { state in
            state.hasHappened = true
            defer { state.waiters = [:] }
            return state.waiters.values
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Waits for the event, until `deadline` or the cancellation of the task.
    ///
    /// - Returns: whether the event has happened.
    package func wait(until deadline: ContinuousClock.Instant) async -> Bool {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.wait() }
            group.addTask {
                // The sleep also ends early when the group is cancelled, because the wait is over then.
                do { try await Task.sleep(until: deadline, clock: .continuous) } catch {}
            }
            await group.next()
            group.cancelAll()
        }
        return hasHappened
    }

    /// Waits for the event or for the cancellation of the task.
    package func wait() async {
        let number = state.withLockedValue { state in
            state.waiterNumber += 1
            return state.waiterNumber
        }
        await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                let resumes = state.withLockedValue { state in
                    // If the task was cancelled earlier, the handler has already run and found no continuation.
                    if state.hasHappened || Task.isCancelled { return true }
                    state.waiters[number] = continuation
                    return false
                }
                if resumes { continuation.resume() }
            }
        } onCancel: {
            state.withLockedValue { $0.waiters.removeValue(forKey: number) }?.resume()
        }
    }
}
