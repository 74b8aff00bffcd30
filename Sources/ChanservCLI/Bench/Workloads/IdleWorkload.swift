import Chanserv

/// Streams that were opened and say nothing: the memory that each costs at either end.
struct IdleWorkload: Workload {
    var streams: Int

    var name: String { "idle" }
    var summary: String { "\(streams) open streams that say nothing" }
    var parameters: [String: BenchParameter] { ["streams": .integer(streams)] }

    var kinds: [LoadKind] { [.zero] }

    /// A frame every eleven days: the first says that the stream is open, the second does not come.
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
        // All of them were open until here.
        withExtendedLifetime(open) {}
        return figures
    }

    /// What is resident at both ends once that has not changed for a moment, or has not settled in some seconds.
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
