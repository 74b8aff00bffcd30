import Chanserv
import NIOCore
import Testing

@Suite struct HostileFrameTests {
    private func bytes(_ length: UInt64, _ payload: [UInt8] = []) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeInteger(length, endianness: .little)
        buffer.writeBytes(payload)
        return buffer
    }

    private func block(claiming size: UInt64, _ block: [UInt8]) -> ByteBuffer {
        var payload = ByteBuffer(string: "lz4!")
        payload.writeInteger(size, endianness: .little)
        payload.writeBytes(block)
        return bytes(UInt64(payload.readableBytes), Array(payload.readableBytesView))
    }

    private func code(_ bytes: ByteBuffer, part: Int = .max) -> ChanservError.Code? {
        do {
            _ = try FrameDecoder.decodeAll(bytes) { $0.readSlice(length: min(part, $0.readableBytes)) }
            return nil
        } catch {
            return (error as? ChanservError)?.code
        }
    }

    @Test(arguments: [104_857_601, 1 << 32, 1 << 63, UInt64.max], [1, Int.max])
    func `a frame length above the limit is refused wherever the bytes are split`(length: UInt64, part: Int) {
        #expect(code(bytes(length, [1, 2, 3]), part: part) == .wrongFrameSize)
    }

    @Test func `a claimed frame length allocates no memory before the bytes arrive`() throws {
        var decoder = FrameDecoder(decompresses: true)
        decoder.append(bytes(104_857_600, [1, 2, 3]))
        let atHand = decoder.nextAtHand()
        #expect(atHand == nil)
        #expect(try decoder.next() == nil)
        #expect(decoder.partial.capacity <= 1024)
        decoder.append(ByteBuffer(repeating: 0, count: 65_536))
        #expect(try decoder.next() == nil)
        #expect(decoder.partial.capacity <= 4 * 65_536)
        #expect(throws: ChanservError.self) { try decoder.finish() }
    }

    @Test func `an end inside a frame is a truncated frame`() {
        let whole = bytes(5, [1, 2, 3, 4, 5])
        for length in 1..<whole.readableBytes {
            #expect(code(whole.getSlice(at: 0, length: length) ?? ByteBuffer()) == .truncatedFrame)
        }
        #expect(code(whole) == nil)
        #expect(code(ByteBuffer()) == nil)
    }

    @Test(arguments: [209_715_201, 1 << 32, 1 << 63, UInt64.max])
    func `an uncompressed size above the limit is refused`(size: UInt64) {
        #expect(code(block(claiming: size, [UInt8](repeating: 0, count: 1000))) == .wrongUncompressedFrameSize)
    }

    @Test func `an uncompressed size that the block cannot hold is refused`() {
        #expect(code(block(claiming: 209_715_200, [UInt8](repeating: 0, count: 20))) == .wrongUncompressedFrameSize)
        #expect(code(block(claiming: 256, [0])) == .wrongUncompressedFrameSize)
    }

    @Test func `a block that does not decompress to its claimed size is corrupt compression`() throws {
        var batch = FrameBatch(compression: true)
        try batch.append([UInt8](repeating: 5, count: 5000))
        let good = batch.take()
        #expect(code(good) == nil)
        for claim in [UInt64(4999), 5001, 0] {
            var bad = good
            bad.setInteger(claim, at: 12, endianness: .little)
            #expect(code(bad) == .corruptCompression)
        }
        var random = Random(seed: 3)
        for _ in 0..<2000 {
            let bytes = (0..<40).map { _ in UInt8(truncatingIfNeeded: random.next() >> 32) }
            let code = code(block(claiming: 100, bytes))
            #expect(code == nil || code == .corruptCompression)
        }
    }

    @Test func `a block that decompresses to nothing is an empty frame`() throws {
        let frames = try FrameDecoder.decodeAll(block(claiming: 0, [0])) { $0.readSlice(length: $0.readableBytes) }
        #expect(frames == [[]])
    }
}
