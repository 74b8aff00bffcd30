internal import NIOConcurrencyHelpers

/// Where the plugin was seen to break a rule. Everything is watched in every case, and each case judges by what it is
/// about, so that a plugin with one mistake fails one case.
final class Findings: Sendable {
    enum Kind: Sendable {
        /// A status that the function is not documented to return.
        case status
        /// An error code the host does not know.
        case unknownError
        /// An error message without an end, beyond the buffer's end, or not UTF-8.
        case errorText
        /// An error without a message.
        case noErrorText
        /// After CHANSERV_FULL something else than READY or an error.
        case afterFull
        /// Beyond a reservation, or a commit without one.
        case room
        /// A sink was used after its poll, or with what it cannot take.
        case sink
        /// A lent frame changed before its release, or was lent without a function to release it.
        case lent
        /// A function of the host's table was not used as the header says.
        case hostTable
        /// READY over and over again, without ever giving anything.
        case livelock
        /// A cancelled object that had answered PENDING was not woken.
        case cancelWake
        /// Something came although nobody was woken.
        case missedWake
        /// What a thread of the host has for itself was changed.
        case threadState
    }

    private struct State {
        var texts: [Kind: [String]] = [:]
        var counts: [Kind: Int] = [:]
    }

    private let state = NIOLockedValueBox(State())

    /// Writes down what was seen; the first few of each kind in words.
    func saw(_ kind: Kind, _ text: @autoclosure () -> String) {
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
