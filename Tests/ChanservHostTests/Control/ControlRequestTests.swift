import ChanservHost
import HostConfiguration
import NIOCore
import NIOEmbedded
import Testing

@Suite struct ControlRequestTests {
    @Test(arguments: [
        ControlRequest.status(every: nil), .status(every: .milliseconds(100)), .status(every: .seconds(3600)),
        .reload(dryRun: false), .reload(dryRun: true),
        .requests(nil, every: nil), .requests("echo", every: nil), .requests(nil, every: .seconds(1)),
        .requests("echo", every: .milliseconds(100)), .cancel(0, reason: nil), .cancel(.max, reason: "a \"reason\"\n"),
        .upgrade, .listeners(version: 1), .handOver,
        .links(every: nil), .links(every: .seconds(1)), .drain("echo"), .enable("a \"quoted\"\n\u{1F600} name"),
    ])
    func `a request is encoded as one line and decoded from it`(request: ControlRequest) throws {
        let line = request.line
        #expect(line.last == UInt8(ascii: "\n"))
        #expect(line.dropLast().firstIndex(of: UInt8(ascii: "\n")) == nil)
        #expect(try ControlRequest(line: line.dropLast()) == request)
    }

    private func error(_ line: String) -> ControlError? {
        do throws(ControlError) {
            _ = try ControlRequest(line: Array(line.utf8))
            return nil
        } catch {
            return error
        }
    }

    @Test func `an invalid request is refused and its mistake is named`() {
        #expect(error(#"{"command":"statsu"}"#)?.message == "unknown command 'statsu'; did you mean 'status'?")
        #expect(error(#"{"command":"status","wacth":true}"#)?.message == "unknown key 'wacth'; did you mean 'watch'?")
        #expect(error(#"{"vaddr":"x"}"#)?.message == "a request needs the key 'command'")
        #expect(error(#"{"command":"drain"}"#)?.message == "'drain' needs the key 'vaddr'")
        #expect(error(#"{"command":"drain","vaddr":""}"#)?.message == "'drain' needs the key 'vaddr'")
        #expect(error(#"{"command":"drain","vaddr":3}"#)?.code == .badRequest)
        #expect(error(#"{"command":"status","interval_ms":500}"#)?.message == "'interval_ms' needs 'watch'")
        #expect(
            error(#"{"command":"reload","watch":true}"#)?.message
                == "'reload' takes no 'watch': it is for 'status', 'requests' and 'links'")
        #expect(
            error(#"{"command":"drain","vaddr":"x","interval_ms":500}"#)?.message
                == "'drain' takes no 'interval_ms': it is for 'status', 'requests' and 'links'")
        #expect(
            error(#"{"command":"reload","vaddr":"x"}"#)?.message
                == "'reload' is for the whole host and takes no 'vaddr'")
        #expect(
            error(#"{"command":"enable","vaddr":"x","id":1}"#)?.message == "'enable' takes no 'id': it is for 'cancel'")
        #expect(
            error(#"{"command":"status","dry_run":true}"#)?.message
                == "'status' takes no 'dry_run': it is for 'reload'")
        #expect(error(#"{"command":"requests","interval_ms":500}"#)?.message == "'interval_ms' needs 'watch'")
        #expect(error(#"{"command":"requests","vaddr":""}"#)?.message == "'requests' needs the key 'vaddr'")
        #expect(error(#"{"command":"cancel"}"#)?.message == "'cancel' needs the key 'id'")
        #expect(error(#"{"command":"cancel","id":"1"}"#)?.code == .badRequest)
        #expect(error(#"{"command":"cancel","id":-1}"#)?.code == .badRequest)
        #expect(error(#"{"command":"cancel","id":1,"reason":""}"#)?.message == "'reason' has from 1 to 1024 bytes")
        let long = String(repeating: "x", count: 1_025)
        #expect(
            error(#"{"command":"cancel","id":1,"reason":"\#(long)"}"#)?.message == "'reason' has from 1 to 1024 bytes")
        #expect(error("{")?.message.hasSuffix("this is not JSON") == true)
    }

    // MARK: Lines

    private func lines(_ parts: [String], limit: Int, end: Bool = false) -> (lines: [String], error: ControlError?) {
        let channel = EmbeddedChannel()
        var lines: [String] = []
        var failure: ControlError?
        do {
            let decoder = ByteToMessageHandler(ControlLineDecoder(limit: limit))
            try channel.pipeline.syncOperations.addHandler(decoder)
            do {
                for part in parts { try channel.writeInbound(ByteBuffer(string: part)) }
                if end { _ = try channel.finish() }
            } catch let error as ControlError {
                failure = error
            }
            while let line = try channel.readInbound(as: ByteBuffer.self) { lines.append(String(buffer: line)) }
        } catch {
            Issue.record("\(error)")
        }
        return (lines, failure)
    }

    @Test func `lines are decoded wherever their bytes are split`() {
        #expect(lines(["a\nbc\n\nd"], limit: 10).lines == ["a", "bc", ""])
        #expect(lines(["a", "b", "\n", "c\nd", "\n"], limit: 10).lines == ["ab", "c", "d"])
    }

    @Test func `a line at the length limit is accepted and a longer one is refused before it ends`() {
        let most = lines(["1234", "567\n"], limit: 7)
        #expect(most.lines == ["1234567"] && most.error == nil)
        #expect(lines(["12345678\n"], limit: 7).error?.code == .tooLong)
        #expect(lines(["1234", "5678"], limit: 7).error?.code == .tooLong)
        let second = lines(["a\n12345678"], limit: 7)
        #expect(second.lines == ["a"] && second.error?.code == .tooLong)
    }

    @Test func `a last line without a newline is an error`() {
        #expect(lines(["a\nb"], limit: 7, end: true).error?.code == .badRequest)
        let whole = lines(["a\nb\n"], limit: 7, end: true)
        #expect(whole.lines == ["a", "b"] && whole.error == nil)
    }
}
