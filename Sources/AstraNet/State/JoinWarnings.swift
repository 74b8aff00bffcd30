/// Decides which failed joins of an address are logged as warnings: the first one, and then one a minute.
///
/// It has no clock: times are nanoseconds of one clock.
package struct JoinWarnings {
    /// The time between two warnings about one address: 1 minute, in nanoseconds.
    package static let interval: UInt64 = 60_000_000_000

    /// What failed: the look-up of a name, or the connection to an address, as `host:port`.
    package enum Key: Hashable {
        case name(String)
        case address(String)
    }

    private struct Failing {
        var warnedAt: UInt64
        var failedAt: UInt64
    }

    private var failing: [Key: Failing] = [:]
    /// The addresses at which this node itself answers. They are never joined, so one warning is enough.
    private var own: Set<Key> = []

    package init() {}

    /// Records a failed attempt. Returns whether to log it as a warning.
    ///
    /// - Parameter isOwn: whether this node itself answered.
    package mutating func failed(_ key: Key, isOwn: Bool = false, now: UInt64) -> Bool {
        if isOwn { return own.insert(key).inserted }
        if let last = failing[key], now < last.warnedAt + Self.interval {
            failing[key]?.failedAt = now
            return false
        }
        // A name may change its addresses. Addresses that are not tried any more are forgotten.
        failing = failing.filter { now < $0.value.failedAt + 5 * Self.interval }
        failing[key] = Failing(warnedAt: now, failedAt: now)
        return true
    }

    /// Records a success. The next failure is a warning again.
    package mutating func joined(_ key: Key) {
        failing[key] = nil
        own.remove(key)
    }
}
