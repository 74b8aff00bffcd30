import ChanservCLI
import NIOCore
import Testing

@Suite struct PostFormatTests {
    @Test func `text output prefixes each line with its source`() {
        #expect(render(.text, .header(source: 3, "head")) == "[3] header: head\n")
        #expect(render(.text, .frame(source: 3, "one\ntwo")) == "[3] one\n[3] two\n")
    }

    @Test func `text output does not double the line feed at the end of a frame`() {
        #expect(render(.text, .frame(source: 0, "line\n")) == "[0] line\n")
        #expect(render(.text, .frame(source: 0, "line\n\n")) == "[0] line\n[0] \n")
        #expect(render(.text, .frame(source: 0, "")) == "[0] \n")
    }

    @Test func `text output omits an empty header`() {
        #expect(render(.text, .header(source: 0, "")) == "")
    }

    @Test func `text output escapes control characters`() {
        #expect(render(.text, .frame(source: 0, "a\u{1B}[2Jb\tc\rd\u{7F}")) == "[0] a\\u{1B}[2Jb\tc\\rd\\u{7F}\n")
        #expect(render(.text, .frame(source: 0, "\u{9B}31m é")) == "[0] \\u{009B}31m é\n")
    }

    @Test func `text output replaces invalid UTF-8`() {
        #expect(render(.text, .frame(source: 0, ByteBuffer(bytes: [0x61, 0xFF, 0xC2]))) == "[0] a\u{FFFD}\u{FFFD}\n")
    }

    @Test func `text output shows the path of a saved source`() {
        let saved = SavedSource(path: "a/b", bytes: 3)
        #expect(render(.text, .end(source: 1, failure: nil, saved: saved)) == "[1] saved: a/b\n")
        #expect(render(.text, .end(source: 1, failure: nil, saved: nil)) == "")
    }

    @Test func `JSON output has one object per line`() {
        #expect(render(.json, .header(source: 0, "h")) == #"{"source":0,"header":"h"}"# + "\n")
        #expect(render(.json, .frame(source: 1, "a\"\n\u{1}/é")) == #"{"source":1,"frame":"a\"\n\u0001/é"}"# + "\n")
        #expect(render(.json, .end(source: 2, failure: nil, saved: nil)) == #"{"source":2,"end":"ok"}"# + "\n")
        #expect(
            render(.json, .end(source: 2, failure: "no \"x\"", saved: nil))
                == #"{"source":2,"end":"error","message":"no \"x\""}"# + "\n")
        #expect(render(.json, .requestFailed("gone")) == #"{"end":"error","message":"gone"}"# + "\n")
    }

    @Test func `JSON output has invalid UTF-8 as base64 with another key`() {
        let bytes = ByteBuffer(bytes: [0xFF, 0x00, 0x61])
        #expect(render(.json, .header(source: 0, bytes)) == #"{"source":0,"header_base64":"/wBh"}"# + "\n")
        #expect(render(.json, .frame(source: 0, bytes)) == #"{"source":0,"frame_base64":"/wBh"}"# + "\n")
        // A truncated character is not valid UTF-8 either.
        #expect(
            render(.json, .frame(source: 0, ByteBuffer(bytes: [0xC3]))) == #"{"source":0,"frame_base64":"ww=="}"# + "\n"
        )
    }

    @Test func `JSON output has the path of a saved source`() {
        #expect(
            render(.json, .end(source: 0, failure: nil, saved: SavedSource(path: "a/b", bytes: 3)))
                == #"{"source":0,"end":"ok","path":"a/b","bytes":3}"# + "\n")
    }

    @Test func `raw output is only the frames`() {
        #expect(render(.raw, .header(source: 0, "h")) == "")
        #expect(render(.raw, .frame(source: 0, "a\u{1B}b")) == "a\u{1B}b")
        #expect(render(.raw, .end(source: 0, failure: "x", saved: nil)) == "")
    }

    private func render(_ format: PostFormat, _ event: PostEvent) -> String {
        var out = ByteBuffer()
        format.render(event, into: &out)
        return String(buffer: out)
    }
}

extension ByteBuffer: @retroactive ExpressibleByStringLiteral {
    public init(stringLiteral value: String) { self.init(string: value) }
}
