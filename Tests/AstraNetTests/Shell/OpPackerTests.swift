import AstraNet
import NIOCore
import Testing

@Suite struct OpPackerTests {
    private static let header = OpHeader(
        .data, to: Address(HostID(rawValue: 1), 2), from: Address(HostID(rawValue: 3), 4))

    /// The buffers of a packer after `write`, and its byte count.
    private func packed(_ write: (inout OpPacker) -> Void) -> (buffers: [ByteBuffer], written: Int) {
        var packer = OpPacker(allocator: ByteBufferAllocator())
        write(&packer)
        let written = packer.written
        return (packer.takeBuffers(), written)
    }

    @Test func `an empty payload makes no buffer`() {
        let (buffers, written) = packed { $0.write(ByteBuffer()) }
        #expect(buffers == [])
        #expect(written == 0)
    }

    @Test func `small ops share one buffer`() {
        let (buffers, written) = packed {
            $0.write(Self.header)
            $0.write(Self.header, number: 7)
            $0.write(Self.header, payload: ByteBuffer(repeating: 1, count: 8_192))
        }
        #expect(buffers.count == 1)
        #expect(written == 3 * OpHeader.size + 4 + 8_192)
        #expect(buffers.first?.readableBytes == written)
    }

    @Test(arguments: [0, 1, 8_191, 8_192, 8_193, 65_536])
    func `the bytes are unchanged and in order for every payload size`(size: Int) throws {
        let payload = ByteBuffer(repeating: 9, count: size)
        let (buffers, written) = packed {
            $0.write(Self.header, number: 1)
            $0.write(Self.header, payload: payload)
            $0.write(ByteBuffer(repeating: 2, count: size))
            $0.write(Self.header, number: 3)
        }
        var all = ByteBuffer()
        for buffer in buffers { all.writeImmutableBuffer(buffer) }
        #expect(all.readableBytes == written)
        let first = try all.readOp()
        #expect(first?.payload.number == 1)
        let second = try all.readOp()
        #expect(second == Op(header: Self.header, payload: payload))
        #expect(all.readSlice(length: size) == ByteBuffer(repeating: 2, count: size))
        let last = try all.readOp()
        #expect(last?.payload.number == 3)
        #expect(all.readableBytes == 0)
    }

    @Test func `a large payload is not copied`() {
        let payload = ByteBuffer(repeating: 9, count: 65_536)
        let (buffers, _) = packed { $0.write(Self.header, payload: payload) }
        #expect(buffers.count == 2)
        let same = payload.withUnsafeReadableBytes { original in
            buffers.last?.withUnsafeReadableBytes { $0.baseAddress == original.baseAddress }
        }
        #expect(same == true)
    }

    @Test(arguments: [1, 8_192, 8_193])
    func `the ops at the beginning of a round leave first, and their buffer is emptied`(size: Int) {
        let (buffers, written) = packed {
            var first = ByteBuffer(repeating: 5, count: size)
            $0.begin(with: &first)
            #expect(first.readableBytes == 0)
            $0.write(Self.header, Self.header)
        }
        var all = ByteBuffer()
        for buffer in buffers { all.writeImmutableBuffer(buffer) }
        #expect(written == size + 2 * OpHeader.size && all.readableBytes == written)
        #expect(all.readSlice(length: size) == ByteBuffer(repeating: 5, count: size))
    }

    @Test(arguments: [false, true])
    func `reusing a buffer does not change bytes that are still in use`(isHeld: Bool) throws {
        var packer = OpPacker(allocator: ByteBufferAllocator())
        packer.write(Self.header, number: 1)
        var buffers = packer.takeBuffers()
        let written = isHeld ? buffers : []
        packer.reuse(buffers)
        packer.write(Self.header, number: 2)
        buffers = packer.takeBuffers()
        #expect(try buffers.map { try $0.only()?.payload.number } == [2])
        if isHeld { #expect(try written.map { try $0.only()?.payload.number } == [1]) }
    }
}

extension ByteBuffer {
    /// The op in the buffer; `nil` if there are other bytes too.
    fileprivate func only() throws -> Op? {
        var bytes = self
        let op = try bytes.readOp()
        return bytes.readableBytes == 0 ? op : nil
    }
}
