extension Duration {
    /// The text of a timeout in whole milliseconds, in the notation of the host's configuration: `30s`, `1m30s`,
    /// `250ms`.
    var notation: String {
        var rest = Int64((self / .milliseconds(1)).rounded())
        var text = ""
        for (unit, length) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] as [(String, Int64)]
        where rest >= length {
            text += "\(rest / length)\(unit)"
            rest %= length
        }
        return text.isEmpty ? "0" : text
    }
}
