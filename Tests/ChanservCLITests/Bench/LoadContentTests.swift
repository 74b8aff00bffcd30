import ChanservCLI
import Testing

/// `BenchCommandTests` compares the content with the plugin's.
@Suite struct LoadContentTests {
    @Test(arguments: LoadKind.allCases) func `a frame with other content does not match`(kind: LoadKind) {
        let content = LoadContent(kind)
        var frame = [UInt8](repeating: 0, count: 100)
        // Zeros match only the kind `zero`, at any source and number.
        #expect(matches(content, frame, 3, 4) == (kind == .zero))
        frame[99] = 1
        #expect(!matches(content, frame, 3, 4))
        #expect(matches(content, [], 3, 4))
    }

    @Test func `the head identifies the source and the number of a frame`() {
        let random = LoadContent(.random)
        let head: [UInt8] = [1, 2, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0]
        #expect(matches(random, head, 0x201, 0x304))
        #expect(!matches(random, head, 0x201, 0x305))
        #expect(!matches(random, head, 0x202, 0x304))
        #expect(matches(LoadContent(.magic), "lz4!".utf8 + head, 0x201, 0x304))
        #expect(matches(LoadContent(.text), Array("0000020100000304".utf8), 0x201, 0x304))
        #expect(matches(LoadContent(.text), Array("0000020".utf8), 0x201, 0x304))
        #expect(!matches(LoadContent(.text), Array("0000021".utf8), 0x201, 0x304))
    }

    private func matches(_ content: LoadContent, _ frame: [UInt8], _ source: Int, _ number: Int) -> Bool {
        frame.withUnsafeBytes { content.matches($0, source: source, number: number) }
    }
}
