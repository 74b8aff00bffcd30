/// Decides which of many similar events are logged one by one: the first of a key, for example of an address. Further
/// ones within a minute are counted and reported together.
///
/// It has no clock: times are nanoseconds of one clock.
package struct WarningRateLimit: Sendable {
    /// The time between two warnings about one key: 1 minute, in nanoseconds.
    package static let interval: UInt64 = 60_000_000_000
    /// Maximum keys with a time of their own. Further keys share one.
    package static let maximumKeys = 1_024

    package enum Decision: Hashable, Sendable {
        /// Log the event.
        case log
        /// The event is counted.
        case count
        /// The event is counted. Call ``takeCount(_:)`` with this key at this time, and log the number.
        case countAndReport(String?, at: UInt64)
    }

    private struct Recent {
        var loggedAt: UInt64
        var counted = 0
    }

    /// The key `nil` is the one that further keys share.
    private var recent: [String?: Recent] = [:]

    package init() {}

    /// Records an event of a key.
    package mutating func occurred(_ key: String, now: UInt64) -> Decision {
        let key = slot(for: key, now: now)
        guard let last = recent[key], last.counted > 0 || now < last.loggedAt + Self.interval else {
            recent[key] = Recent(loggedAt: now)
            return .log
        }
        recent[key]?.counted += 1
        return last.counted == 0 ? .countAndReport(key, at: last.loggedAt + Self.interval) : .count
    }

    /// Returns and resets the number of events that were counted. The next event is logged.
    package mutating func takeCount(_ key: String?) -> Int {
        recent.removeValue(forKey: key)?.counted ?? 0
    }

    private mutating func slot(for key: String, now: UInt64) -> String? {
        guard recent[key] == nil, recent.count >= Self.maximumKeys else { return key }
        recent = recent.filter { $0.value.counted > 0 || now < $0.value.loggedAt + Self.interval }
        return recent.count < Self.maximumKeys ? key : nil
    }
}
