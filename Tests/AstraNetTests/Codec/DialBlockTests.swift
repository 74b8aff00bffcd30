import AstraNet
import NIOCore
import TestSupport
import Testing

@Suite struct DialBlockTests {
    private static let full = DialBlock(
        push: DialBlock.Push(nonce: 0x0102_0304_0506_0708, maximumSources: 64, window: 16_384),
        cookie: 0x1112_1314_1516_1718, deadlineMilliseconds: 30_000, meta: "größe=1", bucket: "a",
        traceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        source: DialBlock.Source(nonce: 0x2122_2324_2526_2728, streamPort: 16_777_217, index: 7))

    /// A block for each field, with the bytes of its entry.
    private static let entries: [(DialBlock, [UInt8])] = [
        (
            DialBlock(push: DialBlock.Push(nonce: 0x0102_0304_0506_0708, maximumSources: 0x1112, window: 0x2122_2324)),
            [1, 0, 14, 1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x21, 0x22, 0x23, 0x24]
        ),
        (DialBlock(cookie: 0x0102_0304_0506_0708), [2, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]),
        (DialBlock(deadlineMilliseconds: 0x0102_0304), [3, 0, 4, 1, 2, 3, 4]),
        (DialBlock(meta: "é"), [4, 0, 2, 0xC3, 0xA9]),
        (DialBlock(bucket: ""), [5, 0, 0]),
        (DialBlock(traceParent: "00-"), [6, 0, 3, 0x30, 0x30, 0x2D]),
        (
            DialBlock(
                source: DialBlock.Source(nonce: 0x0102_0304_0506_0708, streamPort: 0x1112_1314, index: 0x2122_2324)),
            [16, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x21, 0x22, 0x23, 0x24]
        ),
    ]

    private static func encoded(_ block: DialBlock) throws -> [UInt8] {
        var buffer = ByteBuffer()
        try block.validate()
        block.encode(into: &buffer)
        return Array(buffer.readableBytesView)
    }

    private static func decoded(_ bytes: some Sequence<UInt8>) -> DialBlock? {
        DialBlock(decoding: ByteBuffer(bytes: bytes))
    }

    // MARK: - Layout

    @Test(arguments: entries)
    func `each field is one entry of type, length and value`(block: DialBlock, entry: [UInt8]) throws {
        #expect(try Self.encoded(block) == [1] + entry)
        #expect(Self.decoded([1] + entry) == block)
        #expect(block.encodedSize == 1 + entry.count)
    }

    @Test func `entries are encoded in ascending order of their types and decoded in any order`() throws {
        let bytes = try Self.encoded(Self.full)
        #expect(Self.decoded(bytes) == Self.full)
        #expect(bytes.count == Self.full.encodedSize)
        let entries = try Self.entriesOf(bytes)
        #expect(entries.map(\.first) == [1, 2, 3, 4, 5, 6, 16])
        #expect(Self.decoded([1] + entries.reversed().joined()) == Self.full)
    }

    @Test func `a block without entries is valid and empty`() throws {
        #expect(try Self.encoded(DialBlock()) == [1])
        #expect(Self.decoded([1]) == DialBlock())
    }

    @Test func `encoding appends to the buffer and decoding starts at its reader index`() {
        var buffer = ByteBuffer(bytes: [9, 9])
        DialBlock(cookie: 5).encode(into: &buffer)
        #expect(Array(buffer.readableBytesView) == [9, 9, 1, 2, 0, 8, 0, 0, 0, 0, 0, 0, 0, 5])
        buffer.moveReaderIndex(forwardBy: 2)
        #expect(DialBlock(decoding: buffer) == DialBlock(cookie: 5))
    }

    @Test func `extreme numbers are encoded and decoded`() throws {
        let block = DialBlock(
            push: DialBlock.Push(nonce: .max, maximumSources: .max, window: .max), cookie: 0,
            deadlineMilliseconds: .max,
            source: DialBlock.Source(nonce: 0, streamPort: .max, index: .max))
        #expect(Self.decoded(try Self.encoded(block)) == block)
    }

    // MARK: - Unknown and reserved entries

    @Test(arguments: Array(UInt8.min...UInt8.max).filter { ![1, 2, 3, 4, 5, 6, 16].contains($0) })
    func `an entry of unknown or reserved type is skipped`(type: UInt8) throws {
        let bytes = try Self.encoded(Self.full)
        for entry in [[type, 0, 0], [type, 0, 3, 0xFF, 1, 0]] {
            #expect(Self.decoded(bytes + entry) == Self.full)
            #expect(Self.decoded([1] + entry + bytes.dropFirst()) == Self.full)
        }
    }

    @Test(arguments: UInt8.min...UInt8.max)
    func `a type that occurs twice makes the block invalid`(type: UInt8) throws {
        let entry = Self.entries.first { $0.1.first == type }?.1 ?? [type, 0, 1, 0]
        let other: [UInt8] = [type == 200 ? 201 : 200, 0, 0]
        #expect(Self.decoded([1] + entry + other) != nil)
        #expect(Self.decoded([1] + entry + entry) == nil)
        #expect(Self.decoded([1] + entry + other + entry) == nil)
    }

    // MARK: - Malformed blocks

    @Test func `a block cut anywhere but between entries is invalid`() throws {
        let bytes = try Self.encoded(Self.full)
        var boundaries: Set<Int> = [1]
        for entry in try Self.entriesOf(bytes) { boundaries.insert((boundaries.max() ?? 0) + entry.count) }
        #expect(boundaries.contains(bytes.count))
        for length in 0...bytes.count {
            #expect((Self.decoded(bytes.prefix(length)) != nil) == boundaries.contains(length), "cut at \(length)")
        }
    }

    @Test(arguments: [UInt8](0...255).filter { $0 != 1 })
    func `a block of another version is invalid`(version: UInt8) throws {
        #expect(Self.decoded([version] + (try Self.encoded(Self.full)).dropFirst()) == nil)
        #expect(Self.decoded([version]) == nil)
    }

    @Test func `an empty payload is not a block`() {
        #expect(Self.decoded([]) == nil)
    }

    @Test(arguments: [(1, 14), (2, 8), (3, 4), (16, 16)] as [(UInt8, UInt8)])
    func `a number entry of another length is invalid`(type: UInt8, length: UInt8) {
        for wrong in UInt8(0)...40 {
            let bytes = [1, type, 0, wrong] + [UInt8](repeating: 7, count: Int(wrong))
            #expect((Self.decoded(bytes) != nil) == (wrong == length), "\(wrong) bytes")
        }
    }

    @Test func `text in another encoding is invalid`() {
        for type: UInt8 in [4, 5] {
            for text: [UInt8] in [[0xFF], [0xC3], [0xC0, 0x80], [0xED, 0xA0, 0x80]] {
                #expect(Self.decoded([1, type, 0, UInt8(text.count)] + text) == nil)
            }
        }
        #expect(Self.decoded([1, 6, 0, 2, 0xC3, 0xA9]) == nil, "a trace parent is ASCII")
    }

    // MARK: - Size

    @Test func `a block of the maximum size is encoded and decoded, a larger one is not`() throws {
        // Version, header of the entry, text.
        var block = DialBlock(meta: String(repeating: "m", count: 4_092))
        let bytes = try Self.encoded(block)
        #expect(bytes.count == DialBlock.maximumSize)
        #expect(Self.decoded(bytes) == block)

        // A router may add an identity of 1,024 bytes with its header. A receiver takes no more than that.
        let identity = "uri " + String(repeating: "i", count: 1_020)
        let forwarded = try #require(DialBlock.replacingIdentity(in: ByteBuffer(bytes: bytes), with: identity))
        block.identity = identity
        #expect(DialBlock(decoding: forwarded) == block)
        block.identity = nil
        #expect(forwarded.readableBytes == 5_123)
        #expect(Self.decoded([1, 4, 0x14, 0x00] + [UInt8](repeating: 0x6D, count: 5_120)) == nil)
        for length in [4_093, 65_535, 65_536, 100_000] {
            block.meta = String(repeating: "m", count: length)
            #expect(block.encodedSize == 4 + length)
            let error = #expect(throws: AstraNetError.self) { try block.validate() }
            #expect(error?.code == .limitReached)
        }
    }

    @Test func `a trace parent that is not ASCII is invalid`() {
        let error = #expect(throws: AstraNetError.self) { try DialBlock(traceParent: "é").validate() }
        #expect(error?.code == .limitReached)
    }

    // MARK: - Random bytes

    @Test func `random bytes and changed blocks are invalid or decode to a block that encodes again`() throws {
        var random = SplitMix64(state: 10)
        let whole = try Self.encoded(Self.full)
        var valid = 0
        for round in 0..<50_000 {
            var bytes: [UInt8]
            if round % 2 == 0 {
                bytes = (0..<Int.random(in: 0...60, using: &random)).map { _ in UInt8.random(in: 0...20, using: &random)
                }
                if !bytes.isEmpty { bytes[0] = 1 }
            } else {
                bytes = whole
                for _ in 0...Int.random(in: 0...2, using: &random) {
                    bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
                }
            }
            guard let block = Self.decoded(bytes) else { continue }
            valid += 1
            #expect(Self.decoded(try Self.encoded(block)) == block)
        }
        #expect(valid > 1_000, "the generator makes valid blocks too")
    }

    // MARK: - Support

    /// The entries of a valid block, each with its header.
    private static func entriesOf(_ block: [UInt8]) throws -> [[UInt8]] {
        var entries: [[UInt8]] = []
        var rest = block.dropFirst()
        while let type = rest.popFirst() {
            let bytes = (rest.popFirst(), rest.popFirst())
            let (high, low) = (try #require(bytes.0), try #require(bytes.1))
            let length = Int(high) << 8 | Int(low)
            entries.append([type, high, low] + rest.prefix(length))
            rest = rest.dropFirst(length)
        }
        return entries
    }
}
