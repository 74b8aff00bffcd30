import AstraNet
import Testing

@Suite struct WarningRateLimitTests {
    private static let second: UInt64 = 1_000_000_000

    @Test func `the first event of a key is logged and the others of the minute are counted`() {
        var warnings = WarningRateLimit()
        let decisions = (0..<4 as Range<UInt64>).map { warnings.occurred("a", now: $0 * Self.second) }
        #expect(decisions == [.log, .countAndReport("a", at: 60 * Self.second), .count, .count])
        let other = warnings.occurred("b", now: Self.second)
        #expect(other == .log)
        // The report is late.
        let late = warnings.occurred("a", now: 61 * Self.second)
        #expect(late == .count)
        let count = warnings.takeCount("a")
        #expect(count == 4)
        let next = warnings.occurred("a", now: 62 * Self.second)
        #expect(next == .log)
    }

    @Test func `a key without further events is logged again after a minute`() {
        var warnings = WarningRateLimit()
        let logged = [0, 60, 120].filter { warnings.occurred("a", now: $0 * Self.second) == .log }
        #expect(logged == [0, 60, 120])
    }

    @Test func `the keys beyond the limit share one`() {
        var warnings = WarningRateLimit()
        for key in 0..<WarningRateLimit.maximumKeys { _ = warnings.occurred("\(key)", now: 0) }
        let decisions = ["x", "y", "z", "0"].map { warnings.occurred($0, now: Self.second) }
        let reportAt = 60 * Self.second
        #expect(
            decisions == [
                .log, .countAndReport(nil, at: reportAt + Self.second), .count, .countAndReport("0", at: reportAt),
            ])
        // A minute later the other keys are forgotten.
        let later = warnings.occurred("w", now: 61 * Self.second)
        #expect(later == .log)
        let counts = [nil, "0", "w"].map { warnings.takeCount($0) }
        #expect(counts == [2, 1, 0])
    }
}
