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
        let line = line("say \"hi\"\n", ["n": ["1", ["a": "b"]], "v": "42"])
        #expect(
            line.json == #"{"label":"chanserv","level":"warning","message":"say \"hi\"\n","#
                + #""metadata":{"n":["1",{"a":"b"}],"v":"42"},"time":"2026-01-31T12:00:00.250Z"}"#)
    }

    @Test func `numbers and Booleans of a JSON line are no strings`() {
        let metadata: Logger.Metadata = [
            "i": .stringConvertible(UInt64.max), "d": .stringConvertible(0.5), "b": .stringConvertible(true),
            "nan": .stringConvertible(Double.nan), "list": [.stringConvertible(-1 as Int32)],
        ]
        #expect(
            line("x", metadata).json.contains(
                #""metadata":{"b":true,"d":0.5,"i":18446744073709551615,"list":[-1],"nan":"nan"}"#))
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
