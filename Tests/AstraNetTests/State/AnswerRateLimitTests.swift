import AstraNet
import Testing

@Suite struct AnswerAllowanceTests {
    private static let second: UInt64 = 1_000_000_000

    @Test func `a burst of 5 is answered, then 2 per second`() {
        var allowance = AnswerRateLimit(atOnce: 5, perSecond: 2)
        #expect((0..<100).count { _ in allowance.take(now: Self.second) } == 5)
        #expect((0..<100).count { _ in allowance.take(now: Self.second + Self.second / 2 - 1) } == 0)
        #expect((0..<100).count { _ in allowance.take(now: Self.second + Self.second / 2) } == 1)
        #expect((0..<100).count { _ in allowance.take(now: 3 * Self.second) } == 3)
        #expect(
            (0..<100).count { _ in allowance.take(now: 1_000 * Self.second) } == 5, "waiting does not enlarge the burst"
        )
    }
}
