/// The offers whose latest dial failed or was not answered. A dial prefers other offers for a while.
package struct OfferPenalties: Sendable {
    /// The duration of a penalty: 30 s, in nanoseconds.
    private static let duration: UInt64 = 30_000_000_000
    /// The maximum number of penalties. Further failures are not recorded.
    private static let limit = 4_096

    private var until: [Address: UInt64] = [:]

    package init() {}

    /// Records that a dial of `address` failed at `now`.
    package mutating func failed(_ address: Address, now: UInt64) {
        if until.count >= Self.limit { until = until.filter { $0.value > now } }
        guard until.count < Self.limit || until[address] != nil else { return }
        until[address] = now + Self.duration
    }

    /// Records that a dial of `address` succeeded.
    package mutating func succeeded(_ address: Address) {
        guard !until.isEmpty else { return }
        until[address] = nil
    }

    /// Whether a dial must prefer other offers to `address`.
    package func isAvoided(_ address: Address, now: UInt64) -> Bool {
        guard let end = until[address] else { return false }
        return end > now
    }

    /// Whether there are no penalties, including expired ones.
    package var isEmpty: Bool { until.isEmpty }
}
