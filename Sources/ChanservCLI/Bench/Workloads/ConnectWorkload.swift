import Chanserv
import Histogram

/// Measures the latency and the rate of small requests, which several callers post one after the other.
struct ConnectWorkload: Workload {
    var callers: Int
    var seconds: Double

    var name: String { "connect" }
    var summary: String {
        "\(callers) callers, one request with one empty frame after the other, for \(Figure.text(seconds)) s"
    }
    var parameters: [String: BenchParameter] { ["callers": .integer(callers), "seconds": .number(seconds)] }

    var kinds: [LoadKind] { [LoadRequest.smallest.kind] }

    func run(_ bench: BenchContext) async throws -> [Figure] {
        try await measure(bench).figures()
    }

    /// Posts requests until the time is over. Each caller completes the request that it has begun.
    func measure(_ bench: BenchContext) async throws -> Latencies {
        let reader = AnswerReader(.smallest, at: bench.vAddr, bench)
        let begin = ContinuousClock.now
        let end = begin + .seconds(seconds)
        var latencies = Latencies()
        try await withThrowingTaskGroup(of: Latencies.self) { group in
            for _ in 0..<callers {
                group.addTask(executorPreference: bench.executor) {
                    var latencies = Latencies()
                    var now = ContinuousClock.now
                    while now < end {
                        try await reader.readInTurn()
                        let after = ContinuousClock.now
                        latencies.record(after - now)
                        now = after
                        bench.tally.addRequest()
                    }
                    return latencies
                }
            }
            for try await part in group { latencies.add(part) }
        }
        latencies.elapsed = ContinuousClock.now - begin
        return latencies
    }
}

/// The latencies of requests.
struct Latencies: Sendable {
    /// Latencies in nanoseconds with three significant digits.
    private var histogram: Histogram<UInt64> = {
        var histogram = Histogram<UInt64>(numberOfSignificantValueDigits: .three)
        histogram.autoResize = true
        return histogram
    }()
    private var longest = Duration.zero
    /// Time from the start of the first request to the end of the last one.
    var elapsed = Duration.zero

    var count: Int { Int(histogram.totalCount) }

    mutating func record(_ latency: Duration) {
        longest = max(longest, latency)
        histogram.record(UInt64(max(1, latency / .nanoseconds(1))))
    }

    mutating func add(_ other: Latencies) {
        longest = max(longest, other.longest)
        histogram.add(other.histogram)
    }

    /// Returns the latency in microseconds that the given percentage of the requests did not exceed.
    func microseconds(percentile: Double) -> Double {
        Double(histogram.valueAtPercentile(percentile)) / 1_000
    }

    /// Returns the rate and the latencies as figures.
    ///
    /// - Parameter prefix: a prefix for the names of the figures.
    func figures(_ prefix: String = "") -> [Figure] {
        [
            Figure(prefix + "requests", Double(count) / (elapsed / .seconds(1)), "1/s"),
            Figure(prefix + "latency_p50", microseconds(percentile: 50), "us"),
            Figure(prefix + "latency_p99", microseconds(percentile: 99), "us"),
            Figure(prefix + "latency_p99.9", microseconds(percentile: 99.9), "us"),
            Figure(prefix + "latency_max", longest / .microseconds(1), "us"),
        ]
    }
}
