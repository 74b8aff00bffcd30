import NIOConcurrencyHelpers
import TestSupport

/// How far a series of reloads is: what streams wait for in their middle.
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

    /// Returns when there is a newer version than this, or when there will be none.
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
