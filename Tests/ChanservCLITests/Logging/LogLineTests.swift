import ChanservCLI
import Foundation
import Logging
import Testing

@Suite struct LogLineTests {
    @Test func `a text line has time, level, logger, message and sorted metadata`() {
        let line = line("ready", ["b": "2", "a": "one two", "c": ""])
        #expect(line.text == #"2026-01-31T12:00:00.250Z warning chanserv: ready a="one two" b=2 c="""#)
    }

    @Test func `control characters in a text line are escaped`() {
        let line = line("a\nb\u{1B}[m", ["k": "x\ny \"z\""])
        #expect(line.text == #"2026-01-31T12:00:00.250Z warning chanserv: a\nb\u{1B}[m k="x\ny \"z\"""#)
    }

    @Test func `a JSON line is one object`() {
        let line = line("say \"hi\"\n", ["n": ["1", ["a": "b"]], "v": .stringConvertible(42)])
        #expect(
            line.json == #"{"label":"chanserv","level":"warning","message":"say \"hi\"\n","#
                + #""metadata":{"n":["1",{"a":"b"}],"v":"42"},"time":"2026-01-31T12:00:00.250Z"}"#)
    }

    @Test func `a JSON line without metadata has no metadata key`() {
        #expect(
            line("x", [:]).json
                == #"{"label":"chanserv","level":"warning","message":"x","time":"2026-01-31T12:00:00.250Z"}"#)
    }

    private func line(_ message: String, _ metadata: Logger.Metadata) -> LogLine {
        // 2026-01-31 12:00:00.25 UTC
        LogLine(
            time: Date(timeIntervalSince1970: 1_769_860_800.25), level: .warning, label: "chanserv", message: message,
            metadata: metadata)
    }
}
