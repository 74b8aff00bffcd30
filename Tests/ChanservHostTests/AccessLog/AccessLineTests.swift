import Chanserv
import ChanservHost
import Foundation
import Testing

@Suite struct AccessLineTests {
    private static func line(reason: String?, address: String? = "127.0.0.1:4711", id: UInt64? = 7) -> AccessLine {
        AccessLine(
            time: Date(timeIntervalSince1970: 1_769_860_800.25),
            request: RequestSummary(
                id: id, vAddr: "files", client: "AAAAAAAAAAEA:9", clientAddress: address, result: .failed,
                reason: reason, sources: 2, frames: 3, bytes: 400, firstFrame: .microseconds(184),
                duration: .microseconds(1_500)), node: nil)
    }

    @Test func `a text line has key and value pairs`() {
        #expect(
            Self.line(reason: "no such file").line(in: .text)
                == "2026-01-31T12:00:00.250Z client=AAAAAAAAAAEA:9 address=127.0.0.1:4711 id=7 route=files "
                + "result=failed sources=2 frames=3 bytes=400 first_frame_ms=0.184 duration_ms=1.5 "
                + #"reason="no such file""#)
        #expect(!Self.line(reason: nil, address: nil, id: nil).line(in: .text).contains("address="))
    }

    @Test func `a reason from a client stays on one line and inside of its quotation marks`() throws {
        let hostile = "a\n\"b\\ \u{1B}[m\u{85} é = \u{7F}"
        for format in [AccessLogFormat.text, .json] {
            let line = Self.line(reason: hostile).line(in: format)
            #expect(!line.unicodeScalars.contains { $0.properties.generalCategory == .control }, "\(line)")
        }
        let line = Self.line(reason: hostile).line(in: .json)
        let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
        #expect(object?["reason"] as? String == hostile)
        #expect(object?["bytes"] as? Int == 400 && object?["first_frame_ms"] as? Double == 0.184)
    }
}
