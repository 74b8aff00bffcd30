/// Time spans in messages, in the notation of the configuration: `10s`, `1m30s`, `250ms`.
package enum TimeText {
    /// Returns the text of a time span. Spans of more than 100 ms are rounded up to 10 ms, so that the rest of a
    /// timeout reads like the timeout.
    package static func text(nanoseconds: UInt64) -> String {
        var rest = (nanoseconds + 999_999) / 1_000_000
        if rest > 100 { rest = (rest + 9) / 10 * 10 }
        var text = ""
        for (unit, length) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] as [(String, UInt64)]
        where rest >= length {
            text += "\(rest / length)\(unit)"
            rest %= length
        }
        return text.isEmpty ? "0" : text
    }
}
