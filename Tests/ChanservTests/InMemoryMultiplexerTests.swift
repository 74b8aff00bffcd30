import Chanserv
import NIOCore
import Testing

@Suite(.timeLimit(.minutes(5))) struct InMemoryMultiplexerTests {
    private let network = InMemoryMultiplexer(window: 100)
    private let soon = Duration.milliseconds(20)

    private func connect() async throws -> (near: any Connection, far: any Connection) {
        let listener = try network.listen("name")
        defer { listener.close() }
        let near = try await network.dial("name", deadline: .testDeadline)
        return (near, try await listener.accept())
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

    @Test func `a name can be bound once, and again after its binding is closed`() throws {
        let first = try network.listen("name")
        #expect(throws: ConnectionError.self) { try network.listen("name") }
        first.close()
        first.close()
        try network.listen("name").close()
        #expect(network.names.isEmpty)
    }

    @Test func `a dial waits for its name until the deadline`() async throws {
        #expect(await code { _ = try await network.dial("late", deadline: .now + soon) } == .notFound)
        async let dialled = network.dial("late", deadline: .testDeadline)
        let listener = try network.listen("late")
        let far = try await listener.accept()
        let near = try await dialled
        #expect(near.addresses.local == far.addresses.remote && near.addresses.remote == far.addresses.local)
    }

    @Test func `a wait ends at its deadline and the connection stays usable`() async throws {
        let (near, far) = try await connect()
        #expect(await code { _ = try await far.read(deadline: .now + soon) } == .deadlineExceeded)
        #expect(await code { try await near.write(bytes(150), deadline: .now + soon) } == .deadlineExceeded)
        #expect(try await far.read(deadline: nil) == bytes(100))
        #expect(try await far.read(deadline: nil) == bytes(50))
    }

    @Test func `cancelling the task ends reads, writes and dials`() async throws {
        let (near, far) = try await connect()
        // One after the other, because a concurrent read would receive the bytes of the write.
        let waits: [@Sendable () async throws -> Void] = [
            { _ = try await far.read(deadline: nil) },
            { try await near.write(bytes(150), deadline: nil) },
            { [network] in _ = try await network.dial("absent", deadline: .testDeadline) },
        ]
        for wait in waits {
            let task = Task { try await wait() }
            task.cancel()
            await #expect(throws: CancellationError.self) { try await task.value }
        }
    }

    @Test func `at most one window of bytes is in flight`() async throws {
        let (near, far) = try await connect()
        async let written: Void = near.write(bytes(1050), deadline: .testDeadline)
        var sizes: [Int] = []
        while sizes.reduce(0, +) < 1050, let part = try await far.read(deadline: .testDeadline) {
            sizes.append(part.readableBytes)
        }
        try await written
        #expect(sizes.allSatisfy { $0 <= 100 } && sizes.reduce(0, +) == 1050)
    }

    @Test func `queued bytes arrive before the end and before a failure`() async throws {
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

    /// A delegate that records its calls in a journal, and whether the peer is gone.
    private final class Watcher: ConnectionDelegate {
        private let journal: Journal
        private let name: String
        private let connection: any Connection

        init(_ journal: Journal, _ name: String, _ connection: any Connection) {
            self.journal = journal
            self.name = name
            self.connection = connection
            connection.setDelegate(self)
        }

        func connectionChanged() { journal.add(connection.isPeerClosed ? "\(name): gone" : name) }
    }

    @Test func `the delegate is called once for the end of the peer and not for its own end`() async throws {
        let journal = Journal()
        let (near, far) = try await connect()
        let watchers = (Watcher(journal, "near", near), Watcher(journal, "far", far))
        near.close()
        near.fail("too late")
        #expect(journal.all == ["far: gone"])
        far.close()
        #expect(journal.all == ["far: gone"])
        let (third, fourth) = try await connect()
        third.fail("x")
        #expect(fourth.isPeerClosed && !third.isPeerClosed)
        let (fifth, sixth) = try await connect()
        let others = (Watcher(journal, "fifth", fifth), Watcher(journal, "sixth", sixth))
        network.breakConnections()
        #expect(journal.all == ["far: gone", "fifth: gone", "sixth: gone"])
        #expect(await code { _ = try await fifth.read(deadline: nil) } == .connectionLost)
        #expect(await code { try await sixth.write(bytes(1), deadline: nil) } == .connectionLost)
        withExtendedLifetime((watchers, others)) {}
    }

    @Test func `the delegate is called for bytes and for room, and on request for earlier bytes`() async throws {
        let journal = Journal()
        let (near, far) = try await connect()
        #expect(try !near.write(bytes(150)))
        let watchers = (Watcher(journal, "near", near), Watcher(journal, "far", far))
        #expect(journal.all.isEmpty)
        far.callDelegateSoon()
        #expect(journal.all == ["far"])
        guard case .bytes(let first) = far.take() else {
            Issue.record("no bytes were there")
            return
        }
        #expect(first == bytes(100))
        // All queued bytes have moved into the window: there is room again.
        #expect(journal.all == ["far", "near"])
        #expect(try near.write(bytes(50)))
        guard case .bytes(let second) = far.take(), case .nothing = far.take() else {
            Issue.record("the rest is not there, or there is more")
            return
        }
        #expect(second == bytes(100))
        #expect(try near.write(bytes(1)))
        #expect(journal.all == ["far", "near", "far"])
        withExtendedLifetime(watchers) {}
    }

    @Test func `a refused connection fails the dial with the reason`() async throws {
        let binding = try network.bind("name", visibleTo: nil) { _ in .refused("busy") }
        do {
            _ = try await network.dial("name", deadline: .testDeadline)
            Issue.record("the connection was accepted")
        } catch let error as ConnectionError {
            #expect(error.code == .refused && error.message == "busy")
        }
        #expect(network.connectionCount == 0)
        binding.close()
    }

    @Test func `dialNow returns nil for an unknown name and an answered connection for a bound one`() async throws {
        let journal = Journal()
        final class Counter: ConnectionDelegate {
            let journal: Journal
            init(_ journal: Journal) { self.journal = journal }
            func connectionChanged() { journal.add("changed") }
        }
        let (near, far) = try await connect()
        #expect(try network.dialNow("absent", receivedFrom: near, delegate: Counter(journal)) == nil)
        let listener = try network.listen("present")
        let dialled = try #require(
            try network.dialNow("present", receivedFrom: near, delegate: Counter(journal)))
        #expect(dialled.isAnswered)
        let accepted = try await listener.accept()
        try await accepted.write(bytes(1), deadline: nil)
        #expect(journal.all == ["changed"])
        for connection in [near, far, dialled, accepted] { connection.close() }
        #expect(network.connectionCount == 0)
    }
}
