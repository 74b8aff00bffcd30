import AstraNet
import NIOCore
import Testing

/// `Listener.finish`: the service is withdrawn, and streams that were dialled before stay usable.
@Suite struct FinishedListenerTests {
    @Test func `streams dialled before a finish can be accepted, then the listener reports its end`() async throws {
        let pair = try await Pair()
        let listener = try pair.server.bind("service")
        let first = try await pair.client.dial("service", deadline: .testDeadline)
        let second = try await pair.client.dial("service", deadline: .testDeadline)
        listener.finish()
        listener.finish()
        // The name can be bound again at once.
        let next = try pair.server.bind("service")
        let third = try await pair.client.dial("service", deadline: .testDeadline)

        for dialled in [first, second] {
            let accepted = try await listener.nextStream(deadline: .testDeadline)
            try await dialled.send(ByteBuffer(string: "hello"))
            #expect(try await accepted.receive(deadline: .testDeadline) == ByteBuffer(string: "hello"))
            dialled.close()
            accepted.close()
        }
        await #expect { try await listener.nextStream(deadline: .testDeadline) } throws: {
            ($0 as? AstraNetError)?.code == .closed
        }
        _ = try await next.nextStream(deadline: .testDeadline)
        third.close()
        await pair.shutdown()
    }

    @Test func `a finish ends a pending wait for a stream`() async throws {
        let pair = try await Pair()
        let listener = try pair.server.bind("service")
        let waiting = Task { try await listener.nextStream() }
        listener.finish()
        await #expect { try await waiting.value } throws: { ($0 as? AstraNetError)?.code == .closed }
        await pair.shutdown()
    }

    @Test func `a close after a finish fails the streams that were not accepted`() async throws {
        let pair = try await Pair()
        let listener = try pair.server.bind("service")
        let dialled = try await pair.client.dial("service", deadline: .testDeadline)
        listener.finish()
        listener.close()
        await #expect { try await dialled.receive(deadline: .testDeadline) } throws: {
            ($0 as? AstraNetError)?.message.contains("'service' was withdrawn") == true
        }
        dialled.close()
        await pair.shutdown()
    }
}
