import NIOCore
import Testing

@testable import ChanservCLI

@Suite struct PostFormatTests {
    @Test func textPrefixesEveryLineWithItsSource() {
        #expect(render(.text, .header(source: 3, "head")) == "[3] header: head\n")
        #expect(render(.text, .frame(source: 3, "one\ntwo")) == "[3] one\n[3] two\n")
    }

    @Test func textDoesNotDoubleTheLineFeedAFrameEndsIn() {
        #expect(render(.text, .frame(source: 0, "line\n")) == "[0] line\n")
        #expect(render(.text, .frame(source: 0, "line\n\n")) == "[0] line\n[0] \n")
        #expect(render(.text, .frame(source: 0, "")) == "[0] \n")
    }

    @Test func textLeavesOutAnEmptyHeader() {
        #expect(render(.text, .header(source: 0, "")) == "")
    }

    @Test func textShowsWhatWouldCommandATerminal() {
        #expect(render(.text, .frame(source: 0, "a\u{1B}[2Jb\tc\rd\u{7F}")) == "[0] a\\u{1B}[2Jb\tc\\rd\\u{7F}\n")
        #expect(render(.text, .frame(source: 0, "\u{9B}31m é")) == "[0] \\u{009B}31m é\n")
    }

    @Test func textRepairsWhatIsNotUTF8() {
        #expect(render(.text, .frame(source: 0, ByteBuffer(bytes: [0x61, 0xFF, 0xC2]))) == "[0] a\u{FFFD}\u{FFFD}\n")
    }

    @Test func textSaysWhereASourceWasSaved() {
        let saved = SavedSource(path: "a/b", bytes: 3)
        #expect(render(.text, .end(source: 1, failure: nil, saved: saved)) == "[1] saved: a/b\n")
        #expect(render(.text, .end(source: 1, failure: nil, saved: nil)) == "")
    }

    @Test func jsonHasOneObjectALine() {
        #expect(render(.json, .header(source: 0, "h")) == #"{"source":0,"header":"h"}"# + "\n")
        #expect(render(.json, .frame(source: 1, "a\"\n\u{1}/é")) == #"{"source":1,"frame":"a\"\n\u0001/é"}"# + "\n")
        #expect(render(.json, .end(source: 2, failure: nil, saved: nil)) == #"{"source":2,"end":"ok"}"# + "\n")
        #expect(
            render(.json, .end(source: 2, failure: "no \"x\"", saved: nil))
                == #"{"source":2,"end":"error","message":"no \"x\""}"# + "\n")
        #expect(render(.json, .requestFailed("gone")) == #"{"end":"error","message":"gone"}"# + "\n")
    }

    @Test func jsonCarriesBytesThatAreNotUTF8AsBase64UnderAnotherKey() {
        let bytes = ByteBuffer(bytes: [0xFF, 0x00, 0x61])
        #expect(render(.json, .header(source: 0, bytes)) == #"{"source":0,"header_base64":"/wBh"}"# + "\n")
        #expect(render(.json, .frame(source: 0, bytes)) == #"{"source":0,"frame_base64":"/wBh"}"# + "\n")
        // Half of a character is not UTF-8 either.
        #expect(
            render(.json, .frame(source: 0, ByteBuffer(bytes: [0xC3]))) == #"{"source":0,"frame_base64":"ww=="}"# + "\n"
        )
    }

    @Test func jsonSaysWhereASourceWasSaved() {
        #expect(
            render(.json, .end(source: 0, failure: nil, saved: SavedSource(path: "a/b", bytes: 3)))
                == #"{"source":0,"end":"ok","path":"a/b","bytes":3}"# + "\n")
    }

    @Test func rawIsTheFramesAndNothingElse() {
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
