import Chanserv
import NIOCore
import Testing

@Suite struct FrameBatchTests {
    /// A frame of zero bytes that is written into the batch directly, without a copy.
    private struct Zeroes: Frame {
        let count: Int

        func write(into buffer: inout ByteBuffer) {
            buffer.writeRepeatingByte(0, count: count)
        }
    }

    private func frames(_ batch: inout FrameBatch) throws -> [[UInt8]] {
        try FrameDecoder.decodeAll(batch.take()) { $0.readSlice(length: $0.readableBytes) }
    }

    private func room(in batch: inout FrameBatch, _ minimum: Int) throws -> UnsafeMutableRawBufferPointer {
        let room = batch.reserve(minimum: minimum)
        return try #require(room)
    }

    private func code(_ body: () throws(ChanservError) -> Void) -> ChanservError.Code? {
        do { try body() } catch { return error.code }
        return nil
    }

    @Test func `a batch is full at its target size and empty after take`() throws {
        var batch = FrameBatch(target: 100)
        #expect(batch.isFull == false)
        try batch.append([UInt8](repeating: 1, count: 91))
        #expect(batch.isFull == false)
        try batch.append([])
        #expect(batch.isFull == true)
        _ = batch.take()
        #expect(batch.isEmpty == true)
        #expect(batch.isFull == false)
        #expect(batch.byteCount == 0)
    }

    @Test func `an empty batch has room for any frame, another one only up to its target size`() throws {
        var batch = FrameBatch(target: 100)
        #expect(batch.hasCapacity(for: FrameBatch.maxFrameSize) == true)
        #expect(batch.hasCapacity(for: FrameBatch.maxFrameSize + 1) == false)
        #expect(batch.hasCapacity(for: -1) == false)
        try batch.append([1])
        #expect(batch.hasCapacity(for: 83) == true)
        #expect(batch.hasCapacity(for: 84) == false)
        let none = batch.reserve(minimum: 84)
        #expect(none == nil)
    }

    @Test(arguments: [false, true])
    func `a reservation that grows keeps the bytes written before`(compression: Bool) throws {
        var batch = FrameBatch(compression: compression)
        try batch.append([1, 2, 3])
        var size = 10
        while size < 40_000 {
            let room = try room(in: &batch, size)
            #expect(room.count >= size)
            if size > 10 { #expect(room[..<(size / 2)].allSatisfy { $0 == 42 }) }
            for index in 0..<size { room[index] = 42 }
            size *= 2
        }
        try batch.commit(size: 20_480)
        try batch.append([4])
        #expect(try frames(&batch) == [[1, 2, 3], [UInt8](repeating: 42, count: 20_480), [4]])
    }

    @Test(arguments: [false, true])
    func `a reservation that is not committed is dropped`(compression: Bool) throws {
        var batch = FrameBatch(compression: compression)
        let first = try room(in: &batch, 100)
        first[0] = 9
        #expect(batch.isEmpty == true)
        try batch.append([1])
        _ = try room(in: &batch, 100)
        #expect(batch.count == 1)
        #expect(batch.byteCount == 9)
        #expect(try frames(&batch) == [[1]])
        _ = try room(in: &batch, 100)
        let rest = batch.take()
        #expect(rest.readableBytes == 0)
    }

    @Test(arguments: [false, true])
    func `committing more than was reserved throws and drops the reservation`(compression: Bool) throws {
        var batch = FrameBatch(compression: compression)
        let room = try room(in: &batch, 100)
        let tooMuch = room.count + 1
        #expect(code { () throws(ChanservError) in try batch.commit(size: tooMuch) } == .wrongFrameSize)
        #expect(code { () throws(ChanservError) in try batch.commit(size: 1) } == .wrongFrameSize)
        let rest = batch.take()
        #expect(rest.readableBytes == 0)
    }

    @Test func `the largest frame is accepted, and one byte more throws and leaves the batch unchanged`() throws {
        var batch = FrameBatch()
        try batch.append([1])
        #expect(
            code { () throws(ChanservError) in try batch.append(Zeroes(count: FrameBatch.maxFrameSize + 1)) }
                == .wrongFrameSize)
        #expect(batch.count == 1)
        try batch.append(Zeroes(count: FrameBatch.maxFrameSize))
        let all = batch.take()
        #expect(all.readableBytes == 9 + 8 + FrameBatch.maxFrameSize)
    }

    // MARK: Lent frames

    private func parts(_ batch: inout FrameBatch) -> [ByteBuffer] {
        var parts: [ByteBuffer] = []
        batch.takeParts { parts.append($0) }
        return parts
    }

    private func address(_ buffer: ByteBuffer) -> UnsafeRawPointer? {
        buffer.withUnsafeReadableBytes { $0.baseAddress }
    }

    @Test func `lent and copied frames keep the order in which they were appended`() throws {
        let first = ByteBuffer(repeating: 1, count: 8_192)
        let second = ByteBuffer(repeating: 2, count: 10_000)
        var batch = FrameBatch()
        try batch.append([7])
        try batch.append(lent: first)
        try batch.append(lent: second)
        try batch.append([8])
        try batch.append([9])
        #expect(batch.count == 5)
        #expect(batch.byteCount == 5 * 8 + 3 + 8_192 + 10_000)
        let parts = parts(&batch)
        #expect(parts.map(\.readableBytes) == [8 + 1 + 8, 8_192, 8, 10_000, 2 * 9])
        #expect(address(parts[1]) == address(first))
        #expect(address(parts[3]) == address(second))
        var joined = ByteBuffer()
        for part in parts { joined.writeImmutableBuffer(part) }
        let frames = try FrameDecoder.decodeAll(joined) { $0.readSlice(length: $0.readableBytes) }
        #expect(frames == [[7], Array(first.readableBytesView), Array(second.readableBytesView), [8], [9]])
        #expect(batch.isEmpty == true)
        #expect(batch.byteCount == 0)
    }

    @Test func `take returns a batch with lent frames as one buffer`() throws {
        let lent = ByteBuffer(repeating: 1, count: 20_000)
        for leading in [true, false] {
            var batch = FrameBatch()
            if leading { try batch.append([7]) }
            try batch.append(lent: lent)
            let expected: [[UInt8]] = (leading ? [[7]] : []) + [Array(lent.readableBytesView)]
            #expect(try frames(&batch) == expected)
            #expect(batch.isEmpty == true)
            // The next batch is not affected.
            try batch.append([3])
            #expect(try frames(&batch) == [[3]])
        }
    }

    @Test func `a frame that is lent in pieces is one frame`() throws {
        let pieces = [ByteBuffer(repeating: 1, count: 9_000), ByteBuffer(repeating: 2, count: 5)]
        var batch = FrameBatch()
        batch.append(lent: pieces)
        #expect(batch.count == 1)
        #expect(parts(&batch).map(\.readableBytes) == [8, 9_000, 5])
        batch.append(lent: pieces)
        #expect(
            try frames(&batch) == [[UInt8](repeating: 1, count: 9_000) + [UInt8](repeating: 2, count: 5)])
    }

    @Test func `small, compressed and marked payloads are copied even if they are lent`() throws {
        let small = ByteBuffer(repeating: 1, count: 8_191)
        let large = ByteBuffer(repeating: 1, count: 8_192)
        var marked = ByteBuffer(string: "lz4!")
        marked.writeRepeatingByte(1, count: 8_192)
        for (compression, payload) in [(false, small), (true, large), (false, marked)] {
            var batch = FrameBatch(compression: compression)
            try batch.append(lent: payload)
            #expect(parts(&batch).count == 1)
            try batch.append(lent: payload)
            #expect(try frames(&batch) == [Array(payload.readableBytesView)])
        }
    }

    @Test func `a lent frame fills the batch, drops a reservation and respects the size limit`() throws {
        let lent = ByteBuffer(repeating: 1, count: 9_000)
        var batch = FrameBatch(target: 9_008)
        _ = try room(in: &batch, 100)
        try batch.append(lent: lent)
        #expect(batch.isFull == true)
        #expect(batch.hasCapacity(for: 0) == false)
        #expect(parts(&batch).map(\.readableBytes) == [8, 9_000])
        let tooLarge = ByteBuffer(repeating: 1, count: FrameBatch.maxFrameSize + 1)
        #expect(code { () throws(ChanservError) in try batch.append(lent: tooLarge) } == .wrongFrameSize)
        #expect(batch.isEmpty == true)
        #expect(parts(&batch).isEmpty)
    }

    @Test func `a frame can be reserved and committed after a lent frame`() throws {
        let lent = ByteBuffer(repeating: 1, count: 9_000)
        var batch = FrameBatch()
        try batch.append(lent: lent)
        let room = try room(in: &batch, 3)
        #expect(batch.byteCount == 9_008)
        for index in 0..<3 { room[index] = 5 }
        try batch.commit(size: 3)
        #expect(try frames(&batch) == [Array(lent.readableBytesView), [5, 5, 5]])
    }
}
