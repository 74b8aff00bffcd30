import Chanserv

/// Measures the memory that an idle stream needs at the client and at the host.
struct IdleWorkload: Workload {
    var streams: Int

    var name: String { "idle" }
    var summary: String { "\(streams) idle streams" }
    var parameters: [String: BenchParameter] { ["streams": .integer(streams)] }

    var kinds: [LoadKind] { [.zero] }

    /// One frame every eleven days. The first frame comes at once and shows that the stream is open; no second frame
    /// comes.
    private static let rate = "0.000001"

    func run(_ bench: BenchContext) async throws -> [Figure] {
        let request = LoadRequest(sources: streams, frames: 2, size: 1, kind: .zero, rate: Self.rate)
        let reader = AnswerReader(request, at: bench.vAddr, bench)
        let (clientBefore, hostBefore) = try await Self.settledMemory(bench)
        let begin = ContinuousClock.now
        var open: [ReceivedFrames.Iterator] = []
        open.reserveCapacity(streams)
        for try await source in try await bench.client.lookupAndPost(bench.vAddr, body: request.body) {
            try reader.check(header: source, number: open.count)
            var frames = source.frames.makeAsyncIterator()
            guard let first = try await frames.next() else {
                throw BenchError(.failed, "\(bench.vAddr): source \(open.count) has no frame")
            }
            try reader.check(first, source: open.count, number: 0)
            open.append(frames)
            bench.tally.add(frames: 1, bytes: first.count)
        }
        try reader.check(sources: open.count)
        let seconds = (ContinuousClock.now - begin) / .seconds(1)
        let (client, host) = try await Self.settledMemory(bench)
        var figures = [Figure("client_each", Double(client - clientBefore) / Double(streams), "B")]
        if let host, let hostBefore {
            figures.append(Figure("host_each", Double(host - hostBefore) / Double(streams), "B"))
        }
        figures.append(Figure("opened", Double(streams) / seconds, "1/s"))
        // Keeps the streams open during the measurement.
        withExtendedLifetime(open) {}
        return figures
    }

    /// Returns the resident memory of both processes after it was stable for 300 ms, or after 5 seconds.
    private static func settledMemory(_ bench: BenchContext) async throws -> (client: Int, host: Int?) {
        let deadline = ContinuousClock.now + .seconds(5)
        var last = try memory(bench)
        var unchanged = 0
        while unchanged < 3 && ContinuousClock.now < deadline {
            try await Task.sleep(for: .milliseconds(100))
            let now = try memory(bench)
            unchanged = now == last ? unchanged + 1 : 0
            last = now
        }
        return last
    }

    private static func memory(_ bench: BenchContext) throws(SystemError) -> (client: Int, host: Int?) {
        let client = try ProcessUsage.residentMemory(of: nil)
        guard let id = bench.hostID else { return (client, nil) }
        return (client, try ProcessUsage.residentMemory(of: id))
    }
}
