/// Offers whose dial failed or was not answered: they are tried last for a while.
struct OfferPenalties: Sendable {
    /// For so long, in nanoseconds.
    private static let duration: UInt64 = 30_000_000_000
    /// So many are remembered; beyond it a failure is forgotten at once.
    private static let limit = 4_096

    private var until: [Address: UInt64] = [:]

    /// A dial of `address` failed at `now`.
    mutating func failed(_ address: Address, now: UInt64) {
        if until.count >= Self.limit { until = until.filter { $0.value > now } }
        guard until.count < Self.limit || until[address] != nil else { return }
        until[address] = now + Self.duration
    }

    /// A dial of `address` went well.
    mutating func succeeded(_ address: Address) {
        guard !until.isEmpty else { return }
        until[address] = nil
    }

    /// Whether `address` is to be tried last.
    func isAvoided(_ address: Address, now: UInt64) -> Bool {
        guard let end = until[address] else { return false }
        return end > now
    }

    /// Whether any is remembered, due or not.
    var isEmpty: Bool { until.isEmpty }
}
