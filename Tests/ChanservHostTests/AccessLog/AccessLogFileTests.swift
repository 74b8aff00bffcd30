import Chanserv
import ChanservHost
import Foundation
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(1))) struct AccessLogFileTests {
    private let log = RecordingLog()

    private func request(_ id: UInt64) -> RequestSummary {
        RequestSummary(id: id, vAddr: "v", client: "c", clientAddress: nil, result: .ok, reason: nil)
    }

    @Test func `all lines are written in the order of the requests`() throws {
        let folder = try TestFolder()
        let path = folder.file("access.log")
        let file = try AccessLogFile(path, format: .text, node: nil, logger: log.logger)
        for id in 1...2_000 as ClosedRange<UInt64> { file.record(request(id)) }
        file.flush(within: .seconds(50))
        let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
        #expect(lines.count == 2_000)
        #expect(lines.enumerated().allSatisfy { $1.contains(" id=\($0 + 1) ") })
        #expect(file.counts.written == 2_000 && file.counts.lost == 0)
        #expect(log.lines.isEmpty)
    }

    @Test func `a pipe that is not read loses lines and every line is counted`() throws {
        let folder = try TestFolder()
        let path = folder.file("pipe")
        try #require(mkfifo(path, 0o600) == 0)
        let reader = open(path, O_RDONLY | O_NONBLOCK)
        try #require(reader >= 0)
        defer { close(reader) }
        let file = try AccessLogFile(path, format: .text, node: nil, limit: 100, logger: log.logger)
        // More than the pipe and the queue hold.
        for id in 1...5_000 as ClosedRange<UInt64> { file.record(request(id)) }
        file.flush(within: .seconds(50))
        let counts = file.counts
        #expect(counts.lost > 0 && counts.written + counts.lost == 5_000, "\(counts)")
        // The rest of the pipe, then a whole line on a line of its own.
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        var count = read(reader, &bytes, bytes.count)
        while count > 0 { count = read(reader, &bytes, bytes.count) }
        file.record(request(9_999))
        file.flush(within: .seconds(50))
        count = read(reader, &bytes, bytes.count)
        let text = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
        let last = try #require(text.split(separator: "\n").last)
        #expect(last.hasSuffix(" duration_ms=0.0") && last.contains(" id=9999 "), "\(last)")
    }
}
