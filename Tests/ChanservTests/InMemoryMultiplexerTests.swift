import NIOCore
import Testing

@testable import Chanserv

@Suite(.timeLimit(.minutes(5))) struct InMemoryMultiplexerTests {
    private let network = InMemoryMultiplexer(window: 100)
    private let soon = Duration.milliseconds(20)

    private func connect() async throws -> (near: any Connection, far: any Connection) {
        let listener = try network.bind("name", visibleTo: nil)
        defer { listener.close() }
        let near = try await network.dial("name", bucket: nil, deadline: .now + .seconds(120))
        return (near, try await listener.accept(deadline: .now + .seconds(120)))
    }

    private func code(_ body: () async throws -> Void) async -> ConnectionError.Code? {
        do {
            try await body()
            return nil
        } catch {
            return (error as? ConnectionError)?.code
        }
    }

    private func bytes(_ count: Int) -> ByteBuffer { ByteBuffer(repeating: 7, count: count) }

    @Test func aNameIsBoundOnceAndAgainAfterItWasClosed() throws {
        let first = try network.bind("name", visibleTo: nil)
        #expect(throws: ConnectionError.self) { try network.bind("name", visibleTo: nil) }
        first.close()
        first.close()
        try network.bind("name", visibleTo: nil).close()
        #expect(network.names.isEmpty)
    }

    @Test func aDialWaitsForTheNameUntilItsDeadline() async throws {
        #expect(await code { _ = try await network.dial("late", bucket: nil, deadline: .now + soon) } == .notFound)
        async let dialled = network.dial("late", bucket: nil, deadline: .now + .seconds(120))
        let listener = try network.bind("late", visibleTo: nil)
        let far = try await listener.accept(deadline: .now + .seconds(120))
        let near = try await dialled
        #expect(near.addresses.local == far.addresses.remote && near.addresses.remote == far.addresses.local)
    }

    @Test func waitsEndAtTheirDeadlineAndTheConnectionStaysUsable() async throws {
        let listener = try network.bind("other", visibleTo: nil)
        #expect(await code { _ = try await listener.accept(deadline: .now + soon) } == .deadlineExceeded)
        let (near, far) = try await connect()
        #expect(await code { _ = try await far.read(deadline: .now + soon) } == .deadlineExceeded)
        #expect(await code { try await near.write(bytes(150), deadline: .now + soon) } == .deadlineExceeded)
        #expect(try await far.read(deadline: nil) == bytes(100))
        #expect(try await far.read(deadline: nil) == bytes(50))
    }

    @Test func cancellationEndsEveryWait() async throws {
        let listener = try network.bind("other", visibleTo: nil)
        let (near, far) = try await connect()
        // One after the other: at the same time the read would get what the write brings.
        let waits: [@Sendable () async throws -> Void] = [
            { _ = try await listener.accept(deadline: nil) },
            { _ = try await far.read(deadline: nil) },
            { try await near.write(bytes(150), deadline: nil) },
            { [network] in _ = try await network.dial("nobody", bucket: nil, deadline: .now + .seconds(120)) },
        ]
        for wait in waits {
            let task = Task { try await wait() }
            task.cancel()
            await #expect(throws: CancellationError.self) { try await task.value }
        }
    }

    @Test func noMoreThanTheWindowIsUnderWay() async throws {
        let (near, far) = try await connect()
        async let written: Void = near.write(bytes(1050), deadline: .now + .seconds(120))
        var sizes: [Int] = []
        while sizes.reduce(0, +) < 1050, let part = try await far.read(deadline: .now + .seconds(120)) {
            sizes.append(part.readableBytes)
        }
        try await written
        #expect(sizes.allSatisfy { $0 <= 100 } && sizes.reduce(0, +) == 1050)
    }

    @Test func whatWasQueuedArrivesBeforeTheEndAndBeforeAFailure() async throws {
        for fails in [false, true] {
            let (near, far) = try await connect()
            #expect(await code { try await near.write(bytes(150), deadline: .now) } == .deadlineExceeded)
            if fails { near.fail("why") } else { near.close() }
            #expect(try await far.read(deadline: nil) == bytes(100))
            #expect(try await far.read(deadline: nil) == bytes(50))
            if fails {
                #expect(await code { _ = try await far.read(deadline: nil) } == .failedByPeer)
            } else {
                #expect(try await far.read(deadline: nil) == nil)
            }
            #expect(
                await code { try await far.write(bytes(1), deadline: nil) } == (fails ? .failedByPeer : .closedByPeer))
            #expect(await code { _ = try await near.read(deadline: nil) } == .closed)
            #expect(await code { try await near.write(bytes(1), deadline: nil) } == .closed)
            far.close()
        }
        #expect(network.connectionCount == 0)
    }

    @Test func thePeersEndIsToldOnceAndOnesOwnIsNot() async throws {
        let journal = Journal()
        let (near, far) = try await connect()
        near.onPeerClosed { journal.add("near") }
        far.onPeerClosed { journal.add("far") }
        near.close()
        near.fail("too late")
        #expect(journal.all == ["far"])
        far.close()
        #expect(journal.all == ["far"])
        let (third, fourth) = try await connect()
        third.fail("x")
        fourth.onPeerClosed { journal.add("at once") }
        #expect(journal.all == ["far", "at once"])
        let (fifth, sixth) = try await connect()
        fifth.onPeerClosed { journal.add("lost") }
        sixth.onPeerClosed { journal.add("lost") }
        network.breakConnections()
        #expect(journal.count("lost") == 2)
        #expect(await code { _ = try await fifth.read(deadline: nil) } == .connectionLost)
        #expect(await code { try await sixth.write(bytes(1), deadline: nil) } == .connectionLost)
    }

    @Test func connectionsThatWereNotAcceptedAreRefusedWithTheName() async throws {
        let listener = try network.bind("name", visibleTo: nil)
        let waiting = try await network.dial("name", bucket: nil, deadline: .now + .seconds(120))
        listener.close()
        #expect(await code { _ = try await waiting.read(deadline: nil) } == .failedByPeer)
        #expect(await code { _ = try await listener.accept(deadline: nil) } == .closed)
    }
}
