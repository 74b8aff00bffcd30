import Foundation
import NIOCore
import Testing

@testable import AstraNet

/// Links whose ends have memory in common.
@Suite(.timeLimit(.minutes(5))) struct SharedMemoryTests {
    /// Two nodes, of which one writes to the memory, and offers an echo.
    private struct Pair {
        let writer: Node = .patient(.server)
        let reader: Node = .patient(.client)
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

        /// How many bytes of the memory were ever written to, but for zeros.
        var written: Int { Descriptors.contents(of: file, count: size).count { $0 != 0 } }

        func end() async {
            echo.close()
            await reader.shutdown()
            await writer.shutdown()
            close(file)
        }
    }

    @Test func streamsOfEverySizeComeWholeAndTheirBytesThroughTheMemory() async throws {
        let pair = try await Pair(size: 1 << 20)
        for count in [1, 4_095] { try await pair.reader.expectEcho("echo", count: count) }
        #expect(pair.written == 0, "few bytes are not worth it")
        for count in [4_096, 4_097, 65_535, 65_536, 65_537, 262_145, 5_000_000] {
            try await pair.reader.expectEcho("echo", count: count)
        }
        #expect(pair.written > 60_000)
        await pair.end()
    }

    @Test(arguments: [10_000, 70_000, 150_000])
    func whatTheMemoryHasNoRoomForComesOverTheConnection(size: Int) async throws {
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
    func whereOneEndHasNoMemoryAllComesOverTheConnection(writes: Bool) async throws {
        let pair = try await Pair(size: 1 << 20, writes: writes, reads: !writes)
        try await pair.reader.expectEcho("echo", count: 1_000_000)
        #expect(pair.written == 0)
        await pair.end()
    }

    @Test func whatWasSaidBeforeTheWriterClosedIsRead() async throws {
        let pair = try await Pair(size: 1 << 20)
        let listener = try pair.writer.bind("last words")
        let stream = try await pair.reader.dial("last words", deadline: .soon)
        let served = try await listener.nextStream()
        try await served.send(ByteBuffer(repeating: 7, count: 60_000))
        served.close()
        await pair.writer.shutdown()
        let bytes = try await stream.readAll()
        #expect(bytes == ByteBuffer(repeating: 7, count: 60_000))
        await pair.end()
    }

    @Test func aFileThatIsNoneCannotBeShared() throws {
        let error = #expect(throws: AstraNetError.self) { try SharedMemory(descriptor: -1, use: .reads) }
        #expect(error?.code == .unreachable)
        #expect(throws: AstraNetError.self) { try SharedMemory(descriptor: try Descriptors.file(size: 0), use: .reads) }
    }

    // MARK: - Peers that do not behave

    /// A node under siege, and somebody who has memory in common with it.
    private struct Shared {
        let siege: Besieged
        let peer: RawPeer
        let file: CInt
        static let size = 300_000

        init(_ use: SharedMemory.Use) async throws {
            siege = try await Besieged()
            file = try Descriptors.file(size: Self.size)
            let ends = try Descriptors.socketPair()
            let memory = try SharedMemory(descriptor: file, use: use)
            let node = siege.node
            async let attached = node.attach(socket: ends.0, memory: memory)
            peer = try await RawPeer.attached(to: ends.1)
            #expect(await peer.handshake() == node.id)
            _ = try await attached
        }

        func shared(_ offset: UInt32, _ count: UInt32, from port: UInt32 = 5) -> WireOp {
            let place = [offset, count].flatMap { number in
                [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: number >> $0) }
            }
            return peer.op(.shared, to: siege.target.address, from: port, payload: place)
        }

        func end() async throws {
            await peer.close()
            try await siege.end()
            close(file)
        }
    }

    @Test func theBytesOfSharedAreThoseOfData() async throws {
        let shared = try await Shared(.reads)
        #expect(await shared.peer.first(.reads)?.source.host == shared.siege.node.id)
        await shared.peer.open(shared.siege.target.address, from: 5)
        let stream = try await shared.siege.target.nextStream()
        _ = "in the memory".withCString { pwrite(shared.file, $0, 13, 290_000) }
        shared.peer.send([
            shared.peer.op(.data, to: shared.siege.target.address, from: 5, payload: Array("before, ".utf8)),
            shared.shared(290_000, 13),
            shared.peer.op(.data, to: shared.siege.target.address, from: 5, payload: Array(", after".utf8)),
            shared.peer.op(.fin2, to: shared.siege.target.address, from: 5),
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
    func aPlaceThatIsNotThereEndsTheLink(offset: UInt32, count: UInt32) async throws {
        let shared = try await Shared(.reads)
        await shared.peer.open(shared.siege.target.address, from: 5)
        shared.peer.send(shared.shared(offset, count))
        await shared.peer.closed()
        try await shared.end()
    }

    @Test func aPlaceThatIsNoneEndsTheLink() async throws {
        let shared = try await Shared(.reads)
        shared.peer.send(
            shared.peer.op(.shared, to: shared.siege.target.address, from: 5, payload: [0, 0, 0, 0, 0, 0, 1]))
        await shared.peer.closed()
        try await shared.end()
    }

    @Test func moreSharedBytesThanTheWindowAllowsEndTheirStream() async throws {
        let shared = try await Shared(.reads)
        for port in [5, 6] as [UInt32] { await shared.peer.open(shared.siege.target.address, from: port) }
        let streams = [try await shared.siege.target.nextStream(), try await shared.siege.target.nextStream()]
        shared.peer.send([shared.shared(0, 65_536), shared.shared(0, 1), shared.shared(0, 10, from: 6)])
        let error = await streams[0].failure()
        #expect(error?.code == .protocolViolation)
        #expect(try await streams[1].receive(deadline: .soon)?.readableBytes == 10)
        try await shared.end()
    }

    /// It would cost the node a copy for each of a few bytes on the connection.
    @Test func placesThatAreNamedAgainBeforeTheyAreTakenEndTheLink() async throws {
        let shared = try await Shared(.reads)
        let ports = Array(5...10 as ClosedRange<UInt32>)
        for port in ports { await shared.peer.open(shared.siege.target.address, from: port) }
        // In one piece, as one read; more than there is in all.
        shared.peer.send(ports.map { shared.shared(0, 60_000, from: $0) })
        await shared.peer.closed()
        try await shared.end()
    }

    @Test func moreTakenThanWasSharedEndsTheLink() async throws {
        let shared = try await Shared(.writes)
        let reads = WireOp(.reads, to: .otherEnd, from: Address(shared.peer.host, 0))
        shared.peer.send(reads)
        await shared.peer.open(shared.siege.target.address, from: 5)
        let stream = try await shared.siege.target.nextStream()
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

    /// Over an ordinary link these ops are like any that nobody knows.
    @Test func strangersShareNothing() async throws {
        let siege = try await Besieged()
        let peer = try await siege.handshaken()
        await peer.open(siege.target.address, from: 5)
        let stream = try await siege.target.nextStream()
        peer.send([
            WireOp(.reads, to: .otherEnd, from: Address(peer.host, 0)),
            WireOp(.taken, to: .otherEnd, from: Address(peer.host, 0), number: 7),
            peer.op(.shared, to: siege.target.address, from: 5, payload: [0, 0, 0, 0, 0, 0, 0, 9]),
        ])
        #expect(await peer.opsUntilPong() == [])
        try await stream.send(ByteBuffer(repeating: 3, count: 10_000))
        #expect(await peer.first(.data)?.payload.count == 10_000)
        stream.close()
        await peer.close()
        try await siege.end()
    }
}
