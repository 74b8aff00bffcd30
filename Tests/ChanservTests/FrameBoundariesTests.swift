import Chanserv
import NIOCore
import Testing

/// `FrameBoundaries` counts the frames in forwarded bytes, wherever these are split.
@Suite struct FrameWalkTests {
    private static let sizes = [0, 1, 7, 8, 9, 0, 0, 300, 2]

    private static func encoded() -> ByteBuffer {
        var buffer = ByteBuffer()
        for size in sizes {
            buffer.writeInteger(UInt64(size), endianness: .little)
            buffer.writeRepeatingByte(0xAB, count: size)
        }
        return buffer
    }

    @Test func `frames in one buffer are counted`() throws {
        var walk = FrameBoundaries()
        #expect(try walk.ends(in: Self.encoded()) == Self.sizes.count)
        #expect(walk.isBetweenFrames)
    }

    @Test func `frames are counted wherever the bytes are split`() throws {
        let all = Self.encoded()
        for first in 0...all.readableBytes {
            for step in [1, 3, 8, 64] {
                var walk = FrameBoundaries()
                var rest = all
                var count = try walk.ends(in: rest.readSlice(length: first)!)
                while rest.readableBytes > 0 {
                    count += try walk.ends(in: rest.readSlice(length: min(step, rest.readableBytes))!)
                }
                #expect(count == Self.sizes.count)
                #expect(walk.isBetweenFrames)
            }
        }
    }

    @Test func `an end inside a frame is detected`() throws {
        var all = Self.encoded()
        all.moveWriterIndex(to: all.writerIndex - 1)
        var walk = FrameBoundaries()
        #expect(try walk.ends(in: all) == Self.sizes.count - 1)
        #expect(!walk.isBetweenFrames)
        var cut = FrameBoundaries()
        _ = try cut.ends(in: ByteBuffer(bytes: [1, 0, 0]))
        #expect(!cut.isBetweenFrames)
    }

    @Test(arguments: [UInt64(WireFormat.maxFrameSize) + 1, .max])
    func `a frame above the size limit is refused`(size: UInt64) {
        var buffer = ByteBuffer()
        buffer.writeInteger(size, endianness: .little)
        var walk = FrameBoundaries()
        #expect(throws: ChanservError.self) { try walk.ends(in: buffer) }
    }
}
