import AstraNet
import NIOCore
import Testing

/// A service that is withdrawn, and those who dialled it before.
@Suite struct FinishedListenerTests {
    @Test func whatWasDialledBeforeCanBeTakenAndNothingComesAfterIt() async throws {
        let pair = try await Pair()
        let listener = try pair.server.bind("service")
        let first = try await pair.client.dial("service", deadline: .soon)
        let second = try await pair.client.dial("service", deadline: .soon)
        listener.finish()
        listener.finish()
        // The name is free at once.
        let next = try pair.server.bind("service")
        let third = try await pair.client.dial("service", deadline: .soon)

        for dialled in [first, second] {
            let accepted = try await listener.nextStream(deadline: .soon)
            try await dialled.send(ByteBuffer(string: "hello"))
            #expect(try await accepted.receive(deadline: .soon) == ByteBuffer(string: "hello"))
            dialled.close()
            accepted.close()
        }
        await #expect { try await listener.nextStream(deadline: .soon) } throws: {
            ($0 as? AstraNetError)?.code == .closed
        }
        _ = try await next.nextStream(deadline: .soon)
        third.close()
        await pair.shutdown()
    }

    @Test func whoeverWaitsForAStreamHearsOfTheEnd() async throws {
        let pair = try await Pair()
        let listener = try pair.server.bind("service")
        let waiting = Task { try await listener.nextStream() }
        listener.finish()
        await #expect { try await waiting.value } throws: { ($0 as? AstraNetError)?.code == .closed }
        await pair.shutdown()
    }

    @Test func aCloseAfterItFailsWhatNobodyTook() async throws {
        let pair = try await Pair()
        let listener = try pair.server.bind("service")
        let dialled = try await pair.client.dial("service", deadline: .soon)
        listener.finish()
        listener.close()
        await #expect { try await dialled.receive(deadline: .soon) } throws: {
            ($0 as? AstraNetError)?.message.contains("'service' was withdrawn") == true
        }
        dialled.close()
        await pair.shutdown()
    }
}
