import ChanservHost
import Testing

@Suite struct LatencyHistogramTests {
    private static func histogram(_ milliseconds: some Sequence<Double>) -> LatencyHistogram {
        var histogram = LatencyHistogram()
        for time in milliseconds { histogram.add(.microseconds(Int64(time * 1_000))) }
        return histogram
    }

    @Test(arguments: [1, 7, 8, 9, 100, 12_345, 999_999, 3_600_000_000])
    func `the median of one time is within a sixteenth of it`(microseconds: Int64) throws {
        var histogram = LatencyHistogram()
        histogram.add(.microseconds(microseconds))
        let median = try #require(histogram.median) / .microseconds(1)
        #expect(abs(median - Double(microseconds)) <= max(1, Double(microseconds) / 16))
    }

    @Test func `the median is the time that half of the times do not exceed`() throws {
        let median = try #require(Self.histogram([1, 2, 3, 100, 1_000]).median)
        #expect(median > .milliseconds(2.8) && median < .milliseconds(3.2))
        #expect(LatencyHistogram().median == nil)
    }

    @Test func `times out of range count as the nearest one`() {
        var histogram = LatencyHistogram()
        histogram.add(.seconds(-1))
        histogram.add(.seconds(1_000_000_000))
        #expect(histogram.count == 2 && histogram.median == .zero)
    }

    @Test func `equal distributions exceed each other in half of the pairs`() {
        let times = Self.histogram((1...1_000).map { Double($0) })
        #expect(abs(times.shareExceeding(1, times: times) - 0.5) < 0.001)
        #expect(LatencyHistogram().shareExceeding(1, times: times) == 0.5)
    }

    @Test func `times of three times the length exceed twice the others in all pairs`() {
        let (slow, fast) = (Self.histogram([30, 31, 32]), Self.histogram([10, 10.5, 11]))
        #expect(slow.shareExceeding(2, times: fast) == 1)
        #expect(slow.shareExceeding(4, times: fast) == 0)
        #expect(fast.shareExceeding(2, times: slow) == 0)
    }
}
