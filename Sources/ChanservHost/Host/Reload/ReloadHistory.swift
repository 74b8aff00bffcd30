/// The ended reloads of a host, for its status.
struct ReloadHistory: Sendable {
    /// The number of reloads by their result.
    private(set) var counts = HostStatus.Reloads(changed: 0, unchanged: 0, refused: 0)
    private var last: (outcome: ReloadOutcome, time: ContinuousClock.Instant)?

    /// Records a reload that ends now.
    mutating func record(_ outcome: ReloadOutcome) {
        switch outcome.result {
        case .unchanged: counts.unchanged += 1
        case .changed: counts.changed += 1
        case .refused: counts.refused += 1
        }
        last = (outcome, .now)
    }

    /// The last reload; `nil` before the first.
    var lastReload: HostStatus.LastReload? {
        last.map {
            HostStatus.LastReload(ageMilliseconds: $0.time.duration(to: .now).wholeMilliseconds, outcome: $0.outcome)
        }
    }
}
