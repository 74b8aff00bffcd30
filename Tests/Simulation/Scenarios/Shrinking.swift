/// Reduces a failing plan: removes events as long as the rest still fails.
struct Shrinking {
    /// Maximum number of runs.
    private static let runs = 150

    static func shrink(_ plan: Plan) -> Plan {
        var best = plan
        var left = runs
        var size = max(1, best.events.count / 2)
        while size >= 1, left > 0 {
            var start = 0
            var isShorter = false
            while start < best.events.count, left > 0 {
                var candidate = best
                candidate.events.removeSubrange(start..<min(start + size, best.events.count))
                left -= 1
                if Run(candidate).violation != nil {
                    best = candidate
                    isShorter = true
                } else {
                    start += size
                }
            }
            if size == 1, !isShorter { break }
            size = max(1, size / 2)
        }
        return best
    }
}
