import Chanserv

/// Measures the throughput of one request with many sources, which are read concurrently, frame by frame.
struct TransferWorkload: Workload {
    /// `flood` for many small frames, `heavy` for large frames.
    var name: String
    var request: LoadRequest
    var compression: Bool

    var summary: String {
        "\(request.sources) sources of \(request.frames) frames of \(request.size) bytes of \(request.kind.rawValue)"
            + (compression ? ", compressed" : "") + (request.lends ? ", lent" : "")
    }
    var parameters: [String: BenchParameter] {
        [
            "sources": .integer(request.sources), "frames": .integer(request.frames), "size": .integer(request.size),
            "kind": .text(request.kind.rawValue), "compression": .flag(compression),
            "lend": .flag(request.lends),
        ]
    }

    var kinds: [LoadKind] { [request.kind] }
    var lends: Bool { request.lends }

    func run(_ bench: BenchContext) async throws -> [Figure] {
        let reader = AnswerReader(request, at: compression ? bench.compressedVAddr : bench.vAddr, bench)
        let begin = ContinuousClock.now
        try await reader.read()
        let seconds = (ContinuousClock.now - begin) / .seconds(1)
        let frames = Double(request.sources) * Double(request.frames)
        return [
            Figure("frames", frames / seconds, "1/s"),
            Figure("payload", frames * Double(request.size) / seconds / 1e9, "GB/s"),
        ]
    }
}
