import AstraNet
import Foundation
import NIOCore
import Testing

/// Links with shared memory (docs/protocol.md §7).
@Suite(.timeLimit(.minutes(5))) struct SharedMemoryTests {
    /// Two nodes with a link. The writer, which offers an echo service, writes to the shared memory.
    private struct Pair {
        let writer: Node = .withoutTimeouts(.server)
        let reader: Node = .withoutTimeouts(.client)
        let echo: Listener
        private let file: CInt
        private let size: Int

        init(size: Int, writes: Bool = true, reads: Bool = true) async throws {
            (file, self.size) = (try Descriptors.file(size: size), size)
            echo = try writer.echo("echo")
            let ends = try Descriptors.socketPair()
            let written = writes ? try SharedMemory(descriptor: file, use: .writes) : nil
            let read = reads ? try SharedMemory(descriptor: file, use: .reads) : nil
            async let attached = writer.attach(socket: ends.0, memory: written)
            _ = try await (reader.attach(socket: ends.1, memory: read), attached)
        }

        /// Number of bytes in the shared memory that are not zero.
        var written: Int { Descriptors.contents(of: file, count: size).count { $0 != 0 } }

        func end() async {
            echo.close()
            await reader.shutdown()
            await writer.shutdown()
            close(file)
        }
    }

    @Test func `streams of every size arrive complete, large ones through the shared memory`() async throws {
        let pair = try await Pair(size: 1 << 20)
        for count in [1, 4_095] { try await pair.reader.expectEcho("echo", count: count) }
        #expect(pair.written == 0, "fewer than 4,096 bytes are sent as DATA")
        for count in [4_096, 4_097, 65_535, 65_536, 65_537, 262_145, 5_000_000] {
            try await pair.reader.expectEcho("echo", count: count)
        }
        #expect(pair.written > 60_000)
        await pair.end()
    }

    @Test(arguments: [10_000, 70_000, 150_000])
    func `bytes that do not fit into the shared memory are sent over the connection`(size: Int) async throws {
        let pair = try await Pair(size: size)
        try await withThrowingTaskGroup { group in
            for count in 1...20 {
                group.addTask { try await pair.reader.expectEcho("echo", count: count * 37_777) }
            }
            try await group.waitForAll()
        }
        #expect(pair.written > 0)
        await pair.end()
    }

    @Test(arguments: [true, false])
    func `without shared memory at one end all bytes are sent over the connection`(writes: Bool) async throws {
        let pair = try await Pair(size: 1 << 20, writes: writes, reads: !writes)
        try await pair.reader.expectEcho("echo", count: 1_000_000)
        #expect(pair.written == 0)
        await pair.end()
    }

    @Test func `bytes that were shared before the writer closed are read`() async throws {
        let pair = try await Pair(size: 1 << 20)
        let listener = try pair.writer.bind("final")
        let stream = try await pair.reader.dial("final", deadline: .testDeadline)
        let served = try await listener.nextStream()
        try await served.send(ByteBuffer(repeating: 7, count: 60_000))
        served.close()
        await pair.writer.shutdown()
        let bytes = try await stream.readAll()
        #expect(bytes == ByteBuffer(repeating: 7, count: 60_000))
        await pair.end()
    }

    @Test func `an invalid or empty file cannot be shared`() throws {
        let error = #expect(throws: AstraNetError.self) { try SharedMemory(descriptor: -1, use: .reads) }
        #expect(error?.code == .unreachable)
        #expect(throws: AstraNetError.self) { try SharedMemory(descriptor: try Descriptors.file(size: 0), use: .reads) }
    }

    // MARK: - Hostile peers

    /// A node and a raw peer that shares memory with it.
    private struct Shared {
        let harness: HostilePeerHarness
        let peer: RawPeer
        let file: CInt
        static let size = 300_000

        init(_ use: SharedMemory.Use) async throws {
            harness = try await HostilePeerHarness()
            file = try Descriptors.file(size: Self.size)
            let ends = try Descriptors.socketPair()
            let memory = try SharedMemory(descriptor: file, use: use)
            let node = harness.node
            async let attached = node.attach(socket: ends.0, memory: memory)
            peer = try await RawPeer.attached(to: ends.1)
            #expect(await peer.handshake() == node.id)
            _ = try await attached
        }

        func shared(_ offset: UInt32, _ count: UInt32, from port: UInt32 = 5) -> WireOp {
            let place = [offset, count].flatMap { number in
                [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: number >> $0) }
            }
            return peer.op(.shared, to: harness.target.address, from: port, payload: place)
        }

        func end() async throws {
            await peer.close()
            try await harness.end()
            close(file)
        }
    }

    @Test func `SHARED delivers its bytes in the order of DATA`() async throws {
        let shared = try await Shared(.reads)
        #expect(await shared.peer.first(.reads)?.source.host == shared.harness.node.id)
        await shared.peer.open(shared.harness.target.address, from: 5)
        let stream = try await shared.harness.target.nextStream()
        _ = "in the memory".withCString { pwrite(shared.file, $0, 13, 290_000) }
        shared.peer.send([
            shared.peer.op(.data, to: shared.harness.target.address, from: 5, payload: Array("before, ".utf8)),
            shared.shared(290_000, 13),
            shared.peer.op(.data, to: shared.harness.target.address, from: 5, payload: Array(", after".utf8)),
            shared.peer.op(.fin2, to: shared.harness.target.address, from: 5),
        ])
        #expect(String(buffer: try await stream.readAll()) == "before, in the memory, after")
        #expect(await shared.peer.first(.taken)?.number == 1)
        stream.close()
        try await shared.end()
    }

    @Test(
        arguments: [
            (0, 0), (0, 262_145), (0, UInt32.max), (299_999, 2), (300_000, 1), (UInt32.max, 1), (UInt32.max, 65_536),
            (290_000, 10_001),
        ] as [(UInt32, UInt32)])
    func `a SHARED outside of the memory or of invalid size ends the link`(offset: UInt32, count: UInt32) async throws {
        let shared = try await Shared(.reads)
        await shared.peer.open(shared.harness.target.address, from: 5)
        shared.peer.send(shared.shared(offset, count))
        await shared.peer.closed()
        try await shared.end()
    }

    @Test func `a SHARED with a payload of another length ends the link`() async throws {
        let shared = try await Shared(.reads)
        shared.peer.send(
            shared.peer.op(.shared, to: shared.harness.target.address, from: 5, payload: [0, 0, 0, 0, 0, 0, 1]))
        await shared.peer.closed()
        try await shared.end()
    }

    @Test func `shared bytes beyond the window end their stream`() async throws {
        let shared = try await Shared(.reads)
        for port in [5, 6] as [UInt32] { await shared.peer.open(shared.harness.target.address, from: port) }
        let streams = [try await shared.harness.target.nextStream(), try await shared.harness.target.nextStream()]
        shared.peer.send([shared.shared(0, 65_536), shared.shared(0, 1), shared.shared(0, 10, from: 6)])
        let error = await streams[0].failure()
        #expect(error?.code == .protocolViolation)
        #expect(try await streams[1].receive(deadline: .testDeadline)?.readableBytes == 10)
        try await shared.end()
    }

    /// Otherwise a few bytes on the connection would each cost the node a large copy.
    @Test func `more bytes shared than the memory has end the link`() async throws {
        let shared = try await Shared(.reads)
        let ports = Array(5...10 as ClosedRange<UInt32>)
        for port in ports { await shared.peer.open(shared.harness.target.address, from: port) }
        // In one write, so that the node receives them in one read: 360,000 bytes of a memory of 300,000.
        shared.peer.send(ports.map { shared.shared(0, 60_000, from: $0) })
        await shared.peer.closed()
        try await shared.end()
    }

    @Test func `a TAKEN of more than was shared ends the link`() async throws {
        let shared = try await Shared(.writes)
        let reads = WireOp(.reads, to: .otherEnd, from: Address(shared.peer.host, 0))
        shared.peer.send(reads)
        await shared.peer.open(shared.harness.target.address, from: 5)
        let stream = try await shared.harness.target.nextStream()
        try await stream.send(ByteBuffer(repeating: 3, count: 10_000))
        let place = try #require(await shared.peer.first(.shared))
        #expect(place.payload == [0, 0, 0, 0, 0, 0, 0x27, 0x10])
        #expect(Descriptors.contents(of: shared.file, count: 10_001) == [UInt8](repeating: 3, count: 10_000) + [0])
        shared.peer.send(WireOp(.taken, to: .otherEnd, from: Address(shared.peer.host, 0), number: 1))
        #expect(await shared.peer.opsUntilPong() == [])
        shared.peer.send(WireOp(.taken, to: .otherEnd, from: Address(shared.peer.host, 0), number: 1))
        await shared.peer.closed()
        try await shared.end()
    }

    /// On any other link the ops are unknown commands.
    @Test func `the ops of shared memory are ignored on a link without it`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        await peer.open(harness.target.address, from: 5)
        let stream = try await harness.target.nextStream()
        peer.send([
            WireOp(.reads, to: .otherEnd, from: Address(peer.host, 0)),
            WireOp(.taken, to: .otherEnd, from: Address(peer.host, 0), number: 7),
            peer.op(.shared, to: harness.target.address, from: 5, payload: [0, 0, 0, 0, 0, 0, 0, 9]),
        ])
        #expect(await peer.opsUntilPong() == [])
        try await stream.send(ByteBuffer(repeating: 3, count: 10_000))
        #expect(await peer.first(.data)?.payload.count == 10_000)
        stream.close()
        await peer.close()
        try await harness.end()
    }
}
