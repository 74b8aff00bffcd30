import Chanserv
import NIOCore

/// Posts requests to the Load plugin and checks every source and frame of the response.
struct AnswerReader: Sendable {
    let vAddr: String
    let request: LoadRequest
    /// The expected content of the frames; `nil` to check only their number and size.
    let content: LoadContent?
    private let client: Client
    private let tally: Tally

    /// Minimum number of bytes between two updates of the tally.
    private static let tallyInterval = 1 << 18

    init(_ request: LoadRequest, at vAddr: String, _ bench: BenchContext, tally: Tally? = nil) {
        self.vAddr = vAddr
        self.request = request
        // A missing kind is a programming error: without the trap, its frames would not be compared.
        content = bench.contents.map { $0[request.kind]! }
        client = bench.client
        self.tally = tally ?? bench.tally
    }

    /// Posts one request and reads its sources concurrently, one task per source.
    func read() async throws {
        let sources = try await client.lookupAndPost(vAddr, body: request.body)
        try await withThrowingTaskGroup(of: Void.self) { group in
            var count = 0
            for try await source in sources {
                let number = count
                count += 1
                try check(header: source, number: number)
                group.addTask { try await read(source, number: number) }
            }
            try check(sources: count)
            try await group.waitForAll()
        }
    }

    /// Posts one request and reads its sources one after the other, without further tasks.
    func readInTurn() async throws {
        var count = 0
        for try await source in try await client.lookupAndPost(vAddr, body: request.body) {
            try check(header: source, number: count)
            try await read(source, number: count)
            count += 1
        }
        try check(sources: count)
    }

    private func read(_ source: ReceivedSource, number: Int) async throws {
        let size = request.size
        var frames = 0
        var (newFrames, newBytes) = (0, 0)
        for try await frame in source.frames {
            try check(frame, source: number, number: frames)
            frames += 1
            newFrames += 1
            newBytes += size
            if newBytes >= Self.tallyInterval {
                tally.add(frames: newFrames, bytes: newBytes)
                (newFrames, newBytes) = (0, 0)
            }
        }
        tally.add(frames: newFrames, bytes: newBytes)
        guard frames == request.frames else {
            throw wrongAnswer("source \(number) has \(frames) frames, not \(request.frames)")
        }
    }

    @inline(__always)
    func check(_ frame: ReceivedFrame, source: Int, number: Int) throws {
        guard frame.count == request.size else {
            throw wrongAnswer("frame \(number) of source \(source) has \(frame.count) bytes, not \(request.size)")
        }
        guard let content else { return }
        guard frame.withUnsafeBytes({ content.matches($0, source: source, number: number) }) else {
            throw wrongAnswer("frame \(number) of source \(source) has unexpected content")
        }
    }

    /// Checks a header. The plugin numbers its sources in order, and the header of a source is its number.
    func check(header source: ReceivedSource, number: Int) throws {
        let header = String(buffer: source.header)
        guard header == "\(number)" else {
            throw wrongAnswer("the header of source \(number) is '\(header.prefix(40))'")
        }
    }

    func check(sources: Int) throws {
        guard sources == request.sources else {
            throw wrongAnswer("there are \(sources) sources, not \(request.sources)")
        }
    }

    private func wrongAnswer(_ problem: String) -> BenchError {
        BenchError(.failed, "\(vAddr): wrong answer to '\(request.body)': \(problem)")
    }
}
