import AstraNet
import NIOCore
import Testing

/// Packing of written buffers in the outbox of a stream.
@Suite struct OutboxPackingTests {
    private static let packingLimit = 4_096

    private static func storage(queueing buffers: ByteBuffer...) throws -> AstraNet.MeshStream.Storage {
        var storage = AstraNet.MeshStream.Storage(state: .pushing(window: 1 << 20))
        for buffer in buffers { try storage.enqueue(buffer, packingLimit: packingLimit).get() }
        return storage
    }

    @Test func `small buffers are packed together`() throws {
        let storage = try Self.storage(queueing: ByteBuffer(string: "one"), ByteBuffer(string: "two"))
        let outbox = try #require(storage.active?.state.outbox)
        #expect(outbox.count == 1 && outbox.first == ByteBuffer(string: "onetwo"))
    }

    @Test func `a few bytes in a large buffer are copied, so the large buffer is released`() throws {
        var large = ByteBufferAllocator().buffer(capacity: 1 << 20)
        large.writeString("x")
        let storage = try Self.storage(queueing: large, large, large)
        let outbox = try #require(storage.active?.state.outbox)
        #expect(outbox.count == 1 && outbox.first == ByteBuffer(string: "xxx"))
        #expect((outbox.first?.storageCapacity ?? .max) <= 4 * Self.packingLimit)
    }

    @Test func `nothing is appended to a partly sent large buffer, which would copy it`() throws {
        var storage = try Self.storage(queueing: ByteBuffer(repeating: 7, count: 1 << 20))
        storage.active?.state.outbox.changeFirst { $0.moveReaderIndex(to: (1 << 20) - 8) }
        try storage.enqueue(ByteBuffer(string: "next"), packingLimit: Self.packingLimit).get()
        let outbox = try #require(storage.active?.state.outbox)
        #expect(outbox.count == 2 && outbox.last == ByteBuffer(string: "next"))
    }
}
