import ChanservCLI
import Foundation
import Testing

/// Tests `LogWriter` with a pipe.
@Suite(.timeLimit(.minutes(1))) struct LogWriterTests {
    private static func writer(_ pipe: Pipe, limit: Int = LogWriter.defaultLimit) -> LogWriter {
        LogWriter(pipe.fileHandleForWriting.fileDescriptor, limit: limit) { "lost \($0)" }
    }

    /// Reads the pipe to its end on another thread and returns the lines.
    private static func lines(of pipe: Pipe) async throws -> [String] {
        let data = try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread {
                continuation.resume(with: Result { try pipe.fileHandleForReading.readToEnd() ?? Data() })
            }
        }
        return String(decoding: data, as: UTF8.self).split(separator: "\n").map(String.init)
    }

    @Test func `all lines are written in order`() async throws {
        let pipe = Pipe()
        let writer = Self.writer(pipe)
        async let read = Self.lines(of: pipe)
        // Far more than the capacity of the pipe, but within the limit of the queue.
        let lines = (0..<20_000).map { "line \($0) of the log" }
        for line in lines { writer.write(line) }
        writer.flush(within: .seconds(60))
        try pipe.fileHandleForWriting.close()
        #expect(try await read == lines)
    }

    @Test func `a full queue drops lines and reports their number at the gap`() async throws {
        let pipe = Pipe()
        let writer = Self.writer(pipe, limit: 1000)
        // More than the capacity of the pipe, which is not read yet. `write` must not block. After a dropped long
        // line, short lines would still fit into the queue; they must be dropped too, because otherwise they would
        // precede the count.
        let count = 4000
        for index in 0..<count { writer.write("\(index)" + (index % 3 == 0 ? String(repeating: "x", count: 99) : "")) }
        writer.flush(within: .milliseconds(1))

        async let read = Self.lines(of: pipe)
        writer.flush(within: .seconds(60))
        writer.write("\(count)")
        writer.flush(within: .seconds(60))
        try pipe.fileHandleForWriting.close()
        var next = 0
        var lost = 0
        for line in try await read {
            if let number = line.firstMatch(of: #/^lost (\d+)$/#).flatMap({ Int($0.1) }) {
                next += number
                lost += number
            } else {
                try #require(line.prefix { $0 != "x" } == "\(next)")
                next += 1
            }
        }
        #expect(next == count + 1)
        #expect(lost > 0)
    }
}
