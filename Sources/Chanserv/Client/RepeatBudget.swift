import Synchronization

/// The number of times that a request may still be repeated.
package final class RepeatBudget: Sendable {
    private let left: Atomic<Int>

    package init(_ count: Int) { left = Atomic(count) }

    /// Takes one repetition. Returns `false` if none is left.
    package func take() -> Bool {
        while true {
            let count = left.load(ordering: .relaxed)
            guard count > 0 else { return false }
            if left.compareExchange(expected: count, desired: count - 1, ordering: .relaxed).exchanged { return true }
        }
    }

    /// Returns a repetition that was not needed.
    package func giveBack() { left.add(1, ordering: .relaxed) }
}
