import AstraNet
import NIOCore
import Testing

/// Reading into a buffer of the caller.
@Suite(.timeLimit(.minutes(5))) struct FillingTests {
    private static func bytes(_ count: Int) -> ByteBuffer {
        ByteBuffer(bytes: (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) })
    }

    @Test(arguments: [1, 1_000, 65_536, 65_537, 3_000_000])
    func `a reader gets exactly the number of bytes that it asks for`(count: Int) async throws {
        let pair = try await Pair()
        let (client, server) = try await pair.stream()
        let sent = Self.bytes(count + 500)
        async let sending: Void = server.send(sent, deadline: .testDeadline)
        var buffer = ByteBuffer(string: "before")
        #expect(try await client.receive(count, into: &buffer, deadline: .testDeadline) == count)
        #expect(buffer.readString(length: 6) == "before")
        #expect(buffer == sent.getSlice(at: 0, length: count))
        var rest = ByteBuffer()
        #expect(try await client.receive(500, into: &rest, deadline: .testDeadline) == 500)
        #expect(rest == sent.getSlice(at: count, length: 500))
        try await sending
        client.close()
        server.close()
        await pair.shutdown()
    }

    /// Bytes that were taken before must not leave the sender without credit.
    @Test func `reading a whole window before does not leave the reader waiting`() async throws {
        let pair = try await Pair()
        let (client, server) = try await pair.stream()
        let sent = Self.bytes(1_000_000)
        async let sending: Void = server.send(sent, deadline: .testDeadline)
        var received = ByteBuffer()
        while received.readableBytes < sent.readableBytes {
            // Alternates, so that each way of reading follows a window that the other one has emptied.
            received.writeImmutableBuffer(try #require(try await client.receive(deadline: .testDeadline)))
            let left = sent.readableBytes - received.readableBytes
            guard left > 0 else { break }
            _ = try await client.receive(min(left, 70_000), into: &received, deadline: .testDeadline)
        }
        #expect(received == sent)
        try await sending
        client.close()
        server.close()
        await pair.shutdown()
    }

    @Test func `the end of file comes after the available bytes`() async throws {
        let pair = try await Pair()
        let (client, server) = try await pair.stream()
        try await server.send(Self.bytes(90_000), deadline: .testDeadline)
        server.close()
        var buffer = ByteBuffer()
        #expect(try await client.receive(200_000, into: &buffer, deadline: .testDeadline) == 90_000)
        #expect(buffer == Self.bytes(90_000))
        #expect(try await client.receive(1, into: &buffer, deadline: .testDeadline) == 0)
        client.close()
        await pair.shutdown()
    }

    @Test func `bytes received before a failure or a deadline stay in the buffer`() async throws {
        let pair = try await Pair()
        let (client, server) = try await pair.stream()
        try await server.send(ByteBuffer(string: "some"))
        var buffer = ByteBuffer()
        #expect(try await client.receive(4, into: &buffer, deadline: .testDeadline) == 4)
        try await server.send(ByteBuffer(string: " more"))
        var error = await #expect(throws: AstraNetError.self) {
            while buffer.readableBytes < 100 {
                _ = try await client.receive(96, into: &buffer, deadline: .now + .milliseconds(200))
            }
        }
        #expect(error?.code == .deadlineExceeded)
        #expect(buffer == ByteBuffer(string: "some more"))
        // Reading continues after a deadline.
        try await server.send(ByteBuffer(string: " again"))
        #expect(try await client.receive(6, into: &buffer, deadline: .testDeadline) == 6)
        server.fail("the disk is full")
        error = await #expect(throws: AstraNetError.self) {
            try await client.receive(1, into: &buffer, deadline: .testDeadline)
        }
        #expect(error == AstraNetError(.failedByPeer, "the disk is full"))
        #expect(buffer == ByteBuffer(string: "some more again"))
        await pair.shutdown()
    }

    @Test func `a cancelled reader keeps the received bytes`() async throws {
        let pair = try await Pair()
        let (client, server) = try await pair.stream()
        let reading = Task {
            var buffer = ByteBuffer()
            await #expect(throws: CancellationError.self) { try await client.receive(10, into: &buffer) }
            return buffer
        }
        try await server.send(ByteBuffer(string: "half"))
        // `missing` becomes 6 when the node has copied the four bytes into the caller's buffer.
        try await eventually { client.withStorage { $0.active?.state.filling?.missing } == 6 }
        reading.cancel()
        #expect(await reading.value == ByteBuffer(string: "half"))
        client.close()
        server.close()
        await pair.shutdown()
    }

    @Test func `bytes for a waiting reader do not count as buffered`() async throws {
        let pair = try await Pair()
        let (client, server) = try await pair.stream()
        let reading = Task {
            var buffer = ByteBuffer()
            return try await client.receive(60_000, into: &buffer, deadline: .testDeadline)
        }
        try await server.send(Self.bytes(50_000), deadline: .testDeadline)
        try await eventually { client.withStorage { $0.active?.state.filling?.missing } == 10_000 }
        #expect(pair.client.bufferedBytes == 0)
        try await server.send(Self.bytes(20_000), deadline: .testDeadline)
        #expect(try await reading.value == 60_000)
        try await eventually { pair.client.bufferedBytes == 10_000 }
        client.close()
        #expect(pair.client.bufferedBytes == 0)
        server.close()
        await pair.shutdown()
    }
}
