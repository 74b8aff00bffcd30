import HostConfiguration
import Testing

/// Bytes of the system that may not be UTF-8, stored in a string.
@Suite struct SystemTextTests {
    @Test(
        arguments: [
            [], Array("größe".utf8), [0x63, 0x61, 0x66, 0xE9], [0xE9, 0x61], [0xFF, 0xFE, 0x80], [0xC3],
            [0xE2, 0x82, 0x41],
            [0xF0, 0x9F, 0x98], [0xED, 0xA0, 0x80], [0xC0, 0x80], Array("\u{10FE80}x\u{10FEFF}".utf8),
            Array("\u{10FEE9}".utf8) + [0xE9], Array("\u{10FE7F}\u{10FF00}\u{FFFD}".utf8),
        ] as [[UInt8]])
    func `the bytes of text are those it was created from`(bytes: [UInt8]) {
        let text = String(systemBytes: bytes)
        #expect(text.systemBytes == bytes)
        #expect(text.systemString == bytes.map { CChar(bitPattern: $0) } + [0])
        #expect(
            (bytes + [0]).map { CChar(bitPattern: $0) }.withUnsafeBufferPointer {
                String(systemString: $0.baseAddress!)
            } == text)
    }

    @Test func `every pair of bytes is kept`() {
        for pair in UInt16.min...UInt16.max {
            let bytes = [UInt8(pair >> 8), UInt8(pair & 0xFF)]
            guard String(systemBytes: bytes).systemBytes == bytes else {
                Issue.record("\(bytes)")
                return
            }
        }
    }

    @Test func `text that is UTF-8 stays as it is`() {
        #expect(String(systemBytes: "größe 😀".utf8) == "größe 😀")
        #expect(!String(systemBytes: "größe 😀".utf8).hasBytesThatAreNotUTF8)
        #expect(String(systemBytes: [0x61, 0xE9]).hasBytesThatAreNotUTF8)
    }

    @Test func `a path of the configuration keeps its bytes below a folder that is not UTF-8`() throws {
        let folder = String(systemBytes: Array("/caf".utf8) + [0xE9])
        let text = "plugins: {p: {path: \"\u{10FEE9}.so\"}}\nroutes: []"
        let plugin = try #require(HostConfiguration.parse(text, file: "f.yaml", folder: folder).plugins.first)
        #expect(plugin.path.systemBytes == Array("/caf".utf8) + [0xE9, 0x2F] + Array("\u{10FEE9}.so".utf8))
    }
}
