import Chanserv
import NIOCore

/// Posts requests to the Load plugin and checks that the answer is what was asked for, to the last frame.
struct AnswerReader: Sendable {
    let vAddr: String
    let request: LoadRequest
    /// What frames are compared with; `nil` to check only how many they are and how large.
    let content: LoadContent?
    private let client: Client
    private let tally: Tally
    private let executor: (any TaskExecutor)?

    /// So many bytes are read between two additions to the tally.
    private static let reported = 1 << 18

    init(_ request: LoadRequest, at vAddr: String, _ bench: BenchContext, tally: Tally? = nil) {
        self.vAddr = vAddr
        self.request = request
        // A kind that is missing there would not be compared, and nobody would know.
        content = bench.contents.map { $0[request.kind]! }
        client = bench.client
        executor = bench.executor
        self.tally = tally ?? bench.tally
    }

    /// One request, its sources read at the same time, each by a task of its own.
    func read() async throws {
        let sources = try await client.lookupAndPost(vAddr, body: request.body)
        try await withThrowingTaskGroup(of: Void.self) { group in
            var count = 0
            for try await source in sources {
                let number = count
                count += 1
                try check(header: source, number: number)
                group.addTask(executorPreference: executor) { try await read(source, number: number) }
            }
            try check(sources: count)
            try await group.waitForAll()
        }
    }

    /// One request, its sources read one after the other without a task of their own.
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
            if newBytes >= Self.reported {
                tally.add(frames: newFrames, bytes: newBytes)
                (newFrames, newBytes) = (0, 0)
            }
        }
        tally.add(frames: newFrames, bytes: newBytes)
        guard frames == request.frames else {
            throw wrong("source \(number) has \(frames) frames, not \(request.frames)")
        }
    }

    @inline(__always)
    func check(_ frame: ReceivedFrame, source: Int, number: Int) throws {
        guard frame.count == request.size else {
            throw wrong("frame \(number) of source \(source) has \(frame.count) bytes, not \(request.size)")
        }
        guard let content else { return }
        guard frame.withUnsafeBytes({ content.matches($0, source: source, number: number) }) else {
            throw wrong("frame \(number) of source \(source) does not have the content it should have")
        }
    }

    /// The plugin numbers its sources in their order.
    func check(header source: ReceivedSource, number: Int) throws {
        let header = String(buffer: source.header)
        guard header == "\(number)" else {
            throw wrong("the header of source \(number) is '\(header.prefix(40))'")
        }
    }

    func check(sources: Int) throws {
        guard sources == request.sources else {
            throw wrong("there are \(sources) sources, not \(request.sources)")
        }
    }

    private func wrong(_ what: String) -> BenchError {
        BenchError(.failed, "\(vAddr): wrong answer to '\(request.body)': \(what)")
    }
}
