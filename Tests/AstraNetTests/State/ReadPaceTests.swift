import AstraNet
import Testing

@Suite struct ReadPaceTests {
    private static let second: UInt64 = 1_000_000_000

    @Test func `the bytes of one second are read at once`() {
        var pace = ReadPace(bytesPerSecond: 1_000, now: 5)
        #expect(pace.received(1_000, now: 5) == nil)
        #expect(pace.received(1, now: 5) == 1_000_000)
    }

    @Test func `reading pauses until the rate is met`() {
        var pace = ReadPace(bytesPerSecond: 1_000, now: 0)
        #expect(pace.received(3_000, now: 0) == 2 * Self.second)
        // The pause is over: a second's worth is ahead, so the next byte pauses again.
        #expect(pace.received(500, now: 2 * Self.second) == Self.second / 2)
    }

    @Test func `time without bytes is not saved up`() {
        var pace = ReadPace(bytesPerSecond: 1_000, now: 0)
        #expect(pace.received(1, now: 100 * Self.second) == nil)
        #expect(pace.received(2_000, now: 100 * Self.second) == Self.second + Self.second / 1_000)
    }

    @Test func `over a long time the rate is exact`() {
        var pace = ReadPace(bytesPerSecond: 1 << 20, now: 0)
        var (now, total) = (UInt64(0), 0)
        while now < 1_000 * Self.second {
            total += 256 << 10
            now += pace.received(256 << 10, now: now) ?? 0
        }
        // The burst of the first second comes on top.
        #expect(total - (1_001 << 20) < 512 << 10)
        #expect(total >= 1_000 << 20)
    }
}
