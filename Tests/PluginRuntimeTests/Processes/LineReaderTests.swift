import Glibc
import NIOConcurrencyHelpers
import PluginRuntime
import Testing

/// Reading lines from pipes.
@Suite(.timeLimit(.minutes(2))) struct LineReaderTests {
    /// Records the lines of a reader and how often it ended.
    private final class Lines: Sendable {
        let lines = NIOLockedValueBox<[String]>([])
        let ends = NIOLockedValueBox(0)
        let ended = OneTimeEvent()

        func reader(_ descriptor: Int32, limit: Int = 100) -> LineReader {
            LineReader(
                descriptor, limit: limit,
                onLine: { line in self.lines.withLockedValue { $0.append(String(decoding: line, as: UTF8.self)) } },
                onEnd: {
                    self.ends.withLockedValue { $0 += 1 }
                    self.ended.happened()
                })
        }
    }

    private func makePipe() throws -> (reader: Int32, writer: Int32) {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        return (ends[0], ends[1])
    }

    private func write(_ text: String, to descriptor: Int32) {
        let bytes = Array(text.utf8)
        #expect(Glibc.write(descriptor, bytes, bytes.count) == bytes.count)
    }

    @Test func `lines arrive in order and split at the limit, the last one also without a newline`() async throws {
        let ends = try makePipe()
        let lines = Lines()
        let reader = lines.reader(ends.reader, limit: 4)
        write("a\n\nlonger", to: ends.writer)
        write(" line\nlast", to: ends.writer)
        close(ends.writer)
        await lines.ended.wait()
        #expect(lines.lines.withLockedValue { $0.joined(separator: "|") } == "a||long|er l|ine|last")
        reader.cancel()
        #expect(lines.ends.withLockedValue { $0 } == 1)
    }

    @Test func `a cancelled reader delivers the lines written before and ends once`() async throws {
        let ends = try makePipe()
        let lines = Lines()
        let reader = lines.reader(ends.reader)
        write("before\n", to: ends.writer)
        for _ in 0..<3 { reader.cancel() }
        await lines.ended.wait()
        #expect(lines.lines.withLockedValue { $0 } == ["before"])
        #expect(lines.ends.withLockedValue { $0 } == 1)
        close(ends.writer)
    }

    /// The read sources of Dispatch crash in this case (swift-corelibs-libdispatch issue 949).
    @Test func `readers can begin and end concurrently on several threads`() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for task in 0..<8 {
                group.addTask {
                    for number in 0..<2_000 {
                        let ends = try makePipe()
                        let lines = Lines()
                        let reader = lines.reader(ends.reader)
                        write("\(task) \(number)\n", to: ends.writer)
                        close(ends.writer)
                        if number.isMultiple(of: 3) { reader.cancel() }
                        await lines.ended.wait()
                        #expect(lines.lines.withLockedValue { $0 } == ["\(task) \(number)"])
                    }
                }
            }
            try await group.waitForAll()
        }
    }
}
