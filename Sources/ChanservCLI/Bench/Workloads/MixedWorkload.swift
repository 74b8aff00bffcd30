import Chanserv

/// Measures small requests alone, and then beside a random and a compressed stream on the same link.
struct MixedWorkload: Workload {
    var callers: Int
    /// Length of each of the two parts in seconds.
    var seconds: Double
    /// Size of the frames of both streams in bytes.
    var size: Int

    var name: String { "mixed" }
    var summary: String {
        "\(callers) callers alone for \(Figure.text(seconds)) s, then beside a heavy and a compressed stream of frames "
            + "of \(size) bytes"
    }
    var parameters: [String: BenchParameter] {
        ["callers": .integer(callers), "seconds": .number(seconds), "size": .integer(size)]
    }

    var kinds: [LoadKind] { [LoadRequest.smallest.kind, .random, .text] }

    func run(_ bench: BenchContext) async throws -> [Figure] {
        let connect = ConnectWorkload(callers: callers, seconds: seconds)
        let alone = try await connect.measure(bench)
        let heavy = EndlessStream(.random, size: size, at: bench.vAddr, bench)
        let compressed = EndlessStream(.text, size: size, at: bench.compressedVAddr, bench)
        let beside = try await withThrowingTaskGroup(of: Beside.self) { group in
            // The first result, either the latencies or an error, ends all tasks.
            defer { group.cancelAll() }
            for stream in [heavy, compressed] { group.addTask { try await stream.read() } }
            group.addTask {
                for stream in [heavy, compressed] { try await stream.waitForFirstBytes() }
                let before = (heavy.tally.bytes, compressed.tally.bytes)
                let latencies = try await connect.measure(bench)
                let seconds = latencies.elapsed / .seconds(1)
                return Beside(
                    latencies: latencies,
                    heavy: Double(heavy.tally.bytes - before.0) / seconds / 1e9,
                    compressed: Double(compressed.tally.bytes - before.1) / seconds / 1e9)
            }
            return try await group.next()!
        }
        func ratio(_ percentile: Double) -> Double {
            beside.latencies.microseconds(percentile: percentile) / alone.microseconds(percentile: percentile)
        }
        return alone.figures("alone_") + beside.latencies.figures("beside_") + [
            Figure("ratio_p50", ratio(50), "x"),
            Figure("ratio_p99", ratio(99), "x"),
            Figure("ratio_p99.9", ratio(99.9), "x"),
            Figure("heavy_payload", beside.heavy, "GB/s"),
            Figure("compressed_payload", beside.compressed, "GB/s"),
        ]
    }

    /// The latencies measured beside the streams, and the rates of the streams in GB/s.
    private struct Beside: Sendable {
        var latencies: Latencies
        var heavy: Double
        var compressed: Double
    }
}

/// A stream that continues until its reader is cancelled.
private struct EndlessStream: Sendable {
    let tally = Tally()
    private let reader: AnswerReader

    init(_ kind: LoadKind, size: Int, at vAddr: String, _ bench: BenchContext) {
        let request = LoadRequest(sources: 1, frames: LoadRequest.framesMax, size: size, kind: kind)
        reader = AnswerReader(request, at: vAddr, bench, tally: tally)
    }

    /// Reads the stream. Throws when the stream fails, ends or is cancelled.
    func read() async throws -> Never {
        try await reader.read()
        throw BenchError(.failed, "\(reader.vAddr): the stream ended during the measurement")
    }

    /// Waits until the first bytes have arrived.
    func waitForFirstBytes() async throws {
        while tally.bytes == 0 { try await Task.sleep(for: .milliseconds(10)) }
    }
}
