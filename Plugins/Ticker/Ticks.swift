import ChanservPlugin

/// The number of sources and the times of their frames.
struct Ticks: Codable {
    var sources = 1
    var interval = Duration.seconds(1)
    /// The number of frames of each source; 0 for no limit.
    var count = 0

    /// Throws if a value is out of range.
    func check() throws(PluginError) {
        guard (0...10_000).contains(sources) else {
            throw PluginError(.badRequest, "sources: \(sources) is not between 0 and 10000")
        }
        guard interval >= .milliseconds(1), interval <= .seconds(24 * 60 * 60) else {
            throw PluginError(.badRequest, "interval is not between 1ms and 24h")
        }
        guard count >= 0 else {
            throw PluginError(.badRequest, "count: \(count) is below zero")
        }
    }

    /// Returns these values, changed by the words of a request, e.g. `3 100ms 10`.
    func changed(by request: String) throws(PluginError) -> Ticks {
        let words = request.split(whereSeparator: \.isWhitespace)
        guard words.count <= 3 else {
            throw PluginError(.badRequest, "a request has at most three words: sources, interval and count")
        }
        var ticks = self
        if words.count > 0 { ticks.sources = try Self.number(words[0], "sources") }
        if words.count > 1 { ticks.interval = try Self.duration(words[1]) }
        if words.count > 2 { ticks.count = try Self.number(words[2], "count") }
        try ticks.check()
        return ticks
    }

    /// Calls `tick` with 1, 2, 3 … at the given interval.
    ///
    /// - Throws: `CancellationError` at once when the task is cancelled, or an error that `tick` throws.
    func run(_ tick: (Int) async throws -> Void) async throws {
        let clock = ContinuousClock()
        var due = clock.now
        var number = 0
        while count == 0 || number < count {
            // Each tick is due one interval after the last due time, so that delays do not add up, unless the client is
            // late by more than one tick.
            due = max(due, clock.now.advanced(by: .zero - interval)).advanced(by: interval)
            try await clock.sleep(until: due)
            number += 1
            try await tick(number)
        }
    }

    private static func number(_ word: Substring, _ key: String) throws(PluginError) -> Int {
        guard let number = Int(word) else {
            throw PluginError(.badRequest, "\(key): \(word) is not a whole number")
        }
        return number
    }

    private static func duration(_ word: Substring) throws(PluginError) -> Duration {
        let digits = word.prefix { $0.isASCII && $0.isNumber }
        let milliseconds: Int? =
            switch word.dropFirst(digits.count) {
            case "ms": 1
            case "s": 1_000
            case "m": 60_000
            case "h": 3_600_000
            default: nil
            }
        // Ten digits are enough for 24 hours and cannot overflow.
        guard let milliseconds, digits.count <= 10, let number = Int(digits) else {
            throw PluginError(.badRequest, "interval: \(word) is not a duration like 100ms, 5s, 1m or 1h")
        }
        return .milliseconds(number * milliseconds)
    }
}
