import Chanserv
import NIOCore
import Testing

@Suite struct FrameCodecTests {
    private static func encode(_ payloads: [[UInt8]], compression: Bool) throws -> ByteBuffer {
        var batch = FrameBatch(compression: compression)
        for payload in payloads { try batch.append(payload) }
        #expect(batch.count == payloads.count)
        #expect(batch.isEmpty == payloads.isEmpty)
        return batch.take()
    }

    @Test(arguments: Payloads.Kind.allCases, [false, true])
    func `frames of every size and kind decode to what was encoded`(kind: Payloads.Kind, compression: Bool) throws {
        let payloads = Payloads.sizes.map { Payloads.make(kind, $0) }
        let bytes = try Self.encode(payloads, compression: compression)
        let frames = try FrameDecoder.decodeAll(bytes) { $0.readSlice(length: $0.readableBytes) }
        #expect(frames == payloads)
    }

    @Test(arguments: Payloads.Kind.allCases, [false, true])
    func `copied and reserved frames are encoded like appended ones`(kind: Payloads.Kind, compression: Bool) throws {
        for size in Payloads.sizes {
            let payload = Payloads.make(kind, size)
            var copied = FrameBatch(compression: compression)
            try payload.withUnsafeBytes { try copied.append(copying: $0) }
            var reserved = FrameBatch(compression: compression)
            let reservation = reserved.reserve(minimum: size)
            let room = try #require(reservation)
            room.copyBytes(from: payload)
            try reserved.commit(size: size)
            let appended = try Self.encode([payload], compression: compression)
            let (fromCopied, fromReserved) = (copied.take(), reserved.take())
            #expect(fromCopied == appended)
            #expect(fromReserved == appended)
        }
    }

    @Test(arguments: [false, true])
    func `a stream split at any position decodes to the same frames`(compression: Bool) throws {
        let payloads = [0, 1, 12, 13, 40].flatMap { size in Payloads.Kind.allCases.map { Payloads.make($0, size) } }
        let bytes = try Self.encode(payloads, compression: compression)
        for position in 0...bytes.readableBytes {
            var first = true
            let frames = try FrameDecoder.decodeAll(bytes) { rest in
                defer { first = false }
                return rest.readSlice(length: first && position > 0 ? position : rest.readableBytes)
            }
            #expect(frames == payloads)
        }
        let byBytes = try FrameDecoder.decodeAll(bytes) { $0.readSlice(length: 1) }
        #expect(byBytes == payloads)
    }

    @Test func `a large frame in parts of any size decodes to the same frame`() throws {
        let payloads = [Payloads.make(.random, 1 << 20), Payloads.make(.random, 100_000), [1]]
        let bytes = try Self.encode(payloads, compression: false)
        for part in [1000, 4096, 65_536, 65_537, 300_000] {
            let frames = try FrameDecoder.decodeAll(bytes) { $0.readSlice(length: min(part, $0.readableBytes)) }
            #expect(frames == payloads)
        }
    }

    @Test func `a frame on the wire is an 8-byte little-endian length and the payload`() throws {
        let bytes = try Self.encode([[7, 8, 9], []], compression: false)
        #expect(Array(bytes.readableBytesView) == [3, 0, 0, 0, 0, 0, 0, 0, 7, 8, 9, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    @Test func `only payloads of more than 12 bytes that shrink are compressed`() throws {
        func wire(_ payload: [UInt8]) throws -> [UInt8] {
            Array(try Self.encode([payload], compression: true).readableBytesView.dropFirst(8))
        }
        let zeroes12 = [UInt8](repeating: 0, count: 12)
        #expect(try wire(zeroes12) == zeroes12)
        let random = Payloads.make(.random, 1000)
        #expect(try wire(random) == random)
        let zeroes = try wire([UInt8](repeating: 0, count: 1000))
        #expect(zeroes.prefix(12) == [0x6c, 0x7a, 0x34, 0x21, 0xe8, 3, 0, 0, 0, 0, 0, 0])
        #expect(zeroes.count < 100)
    }

    @Test(arguments: [false, true])
    func `a payload that begins with the lz4 mark is always encoded as a block`(compression: Bool) throws {
        for size in [13, 14, 1000, 65_537] {
            let payload = Payloads.make(.marked, size)
            let wire = Array(try Self.encode([payload], compression: compression).readableBytesView.dropFirst(8))
            #expect(wire.prefix(4) == payload.prefix(4))
            #expect(wire.count > size, "random bytes do not shrink, and have to be a block all the same")
            let size64 = withUnsafeBytes(of: UInt64(size).littleEndian) { Array($0) }
            #expect(Array(wire[4..<12]) == size64)
        }
        let short = Payloads.make(.marked, 12)
        #expect(Array(try Self.encode([short], compression: compression).readableBytesView.dropFirst(8)) == short)
    }

    @Test func `frames of the master stream are never decompressed`() throws {
        var batch = FrameBatch(compression: true)
        try batch.append([UInt8](repeating: 0, count: 1000))
        let bytes = batch.take()
        let frames = try FrameDecoder.decodeAll(bytes, decompresses: false) { $0.readSlice(length: $0.readableBytes) }
        #expect(frames.first?.prefix(4) == [0x6c, 0x7a, 0x34, 0x21])
    }
}
