import NIOConcurrencyHelpers
import TestSupport

/// The progress of a series of reloads. Streams can wait for the next version.
final class ReloadClock: Sendable {
    private struct State {
        var version = 0
        var hasEnded = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private let state = NIOLockedValueBox(State())

    /// The newest version that new requests get.
    var version: Int { state.withLockedValue { $0.version } }
    var hasEnded: Bool { state.withLockedValue { $0.hasEnded } }

    func advance(to version: Int) {
        change { $0.version = version }
    }

    func end() {
        change { $0.hasEnded = true }
    }

    /// Waits until there is a newer version than `version`, or the series has ended.
    func waitForVersion(after version: Int) async {
        await withCheckedContinuation { continuation in
            let resumes = state.withLockedValue { state in
                if state.version > version || state.hasEnded { return true }
                state.waiters.append(continuation)
                return false
            }
            if resumes { continuation.resume() }
        }
    }

    private func change(_ body: (inout State) -> Void) {
        let waiters = state.withLockedValue { state in
            body(&state)
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }
}
