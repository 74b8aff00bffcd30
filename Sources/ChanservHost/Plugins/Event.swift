internal import NIOConcurrencyHelpers

/// Something that happens once and can be waited for.
package final class Event: Sendable {
    private struct State {
        var hasHappened = false
        var waiters: [Int: UnsafeContinuation<Void, Never>] = [:]
        var waiterNumber = 0
    }

    private let state = NIOLockedValueBox(State())

    package init() {}

    package var hasHappened: Bool { state.withLockedValue { $0.hasHappened } }

    /// It has happened. Repeating it does nothing.
    package func happened() {
        let waiters = state.withLockedValue { state in
            state.hasHappened = true
            defer { state.waiters = [:] }
            return state.waiters.values
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Waits for it, at the longest until `deadline` or the task's cancellation.
    ///
    /// - Returns: whether it has happened.
    package func wait(until deadline: ContinuousClock.Instant) async -> Bool {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.wait() }
            group.addTask {
                // The sleep ends early with the cancellation of the group, when nobody waits any more.
                do { try await Task.sleep(until: deadline, clock: .continuous) } catch {}
            }
            await group.next()
            group.cancelAll()
        }
        return hasHappened
    }

    /// Waits for it or for the task's cancellation.
    package func wait() async {
        let number = state.withLockedValue { state in
            state.waiterNumber += 1
            return state.waiterNumber
        }
        await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                let resumes = state.withLockedValue { state in
                    // Cancelled before this point: the handler has run and found nobody.
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
