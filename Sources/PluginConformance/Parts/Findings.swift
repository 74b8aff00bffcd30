internal import NIOConcurrencyHelpers

/// The rules that the plugin broke. All rules are checked in every case, but each case judges only its own, so that a
/// plugin with one error fails one case.
final class Findings: Sendable {
    enum Kind: Sendable {
        /// A function returned a status that is not documented for it.
        case status
        /// A function returned an error code that the host does not know.
        case unknownError
        /// An error message without a zero, beyond its buffer, or not in UTF-8.
        case errorText
        /// An error without a message.
        case noErrorText
        /// A poll returned neither READY nor an error after CHANSERV_FULL.
        case afterFull
        /// A write beyond a reservation, or a commit without one.
        case room
        /// A sink was used after its poll, or with invalid arguments.
        case sink
        /// A lent frame changed before its release, or has no release function.
        case lent
        /// A function of the host's table was called with invalid arguments or at the wrong time.
        case hostTable
        /// A poll returned READY again and again without giving anything.
        case livelock
        /// An object that had returned PENDING was not woken after its cancellation.
        case cancelWake
        /// A poll without a wake brought something.
        case missedWake
        /// State of a thread of the host was changed.
        case threadState
    }

    private struct State {
        var texts: [Kind: [String]] = [:]
        var counts: [Kind: Int] = [:]
    }

    private let state = NIOLockedValueBox(State())

    /// Counts a finding and keeps the first few texts of each kind.
    func record(_ kind: Kind, _ text: @autoclosure () -> String) {
        state.withLockedValue { state in
            state.counts[kind, default: 0] += 1
            guard state.texts[kind, default: []].count < 3 else { return }
            let text = text()
            if state.texts[kind]?.contains(text) != true { state.texts[kind, default: []].append(text) }
        }
    }

    func of(_ kind: Kind) -> [String] { state.withLockedValue { $0.texts[kind] ?? [] } }

    func of(_ kinds: [Kind]) -> [String] { kinds.flatMap(of) }

    func count(_ kind: Kind) -> Int { state.withLockedValue { $0.counts[kind] ?? 0 } }
}
