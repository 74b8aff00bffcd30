import AstraNet
import NIOCore
import Testing

/// Waiting for changes of a node's listing.
@Suite(.timeLimit(.minutes(5))) struct ListingChangesTests {
    /// Waits for changes until `condition` is true.
    private func wait(
        _ changes: inout ListingChanges.Iterator, until condition: () -> Bool,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        while !condition() {
            try #require(try await changes.next(deadline: .testDeadline) != nil, sourceLocation: sourceLocation)
        }
    }

    @Test func `every kind of change is reported`() async throws {
        let node = Node.withoutTimeouts { $0.pingInterval = .milliseconds(100) }
        let address = try await node.listening()
        var changes = node.listingChanges.makeAsyncIterator()
        let peer = try await RawPeer.connect(to: address)
        _ = await peer.handshake()
        try await wait(&changes) { node.linkCount == 1 }
        let offer = WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: "thing")
        peer.send(offer)
        try await wait(&changes) { node.services.count == 1 }
        // A repeated offer is not a change. The next change is the withdrawal.
        peer.send(offer)
        peer.send(WireOp(.noService, to: .otherEnd, from: Address(peer.host, 9), text: "thing"))
        try await wait(&changes) { node.services.isEmpty }
        peer.send(WireOp(.service, to: Address(node.id, 0), from: Address(.random(), 9), text: "private"))
        try await wait(&changes) { node.services.count == 1 }
        let far = try #require(node.services.first).address.host
        peer.send(WireOp(.rst, to: Address(node.id, 0), from: Address(far, 0)))
        try await wait(&changes) { node.services.isEmpty }
        peer.send(WireOp(.pong, to: .otherEnd, from: Address(peer.host, 0)))
        try await wait(&changes) { node.listing.links.first?.roundTrip != nil }
        await peer.close()
        try await wait(&changes) { node.linkCount == 0 }
        await node.shutdown()
        #expect(try await changes.next(deadline: .testDeadline) == nil)
        #expect(await changes.next() == nil)
    }

    @Test func `pending changes are merged and none is missed`() async throws {
        // One link to a peer that answers no PING, because a measured round trip would be a change too.
        let node = Node.withoutTimeouts(.peer)
        let peer = try await RawPeer.connect(to: try await node.listening())
        _ = await peer.handshake()
        var changes = node.listingChanges.makeAsyncIterator()
        for index in 0..<1_000 {
            peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: "\(index)"))
        }
        _ = await peer.opsUntilPong()
        #expect(await changes.next() != nil)
        let error = await #expect(throws: AstraNetError.self) { try await changes.next(deadline: .now) }
        #expect(error?.code == .deadlineExceeded)
        // Every watcher gets the change.
        var other = node.listingChanges.makeAsyncIterator()
        peer.send(WireOp(.noService, to: .otherEnd, from: Address(peer.host, 9), text: "0"))
        #expect(await changes.next() != nil)
        #expect(await other.next() != nil)
        await peer.close()
        await node.shutdown()
    }

    @Test func `a wait ends with its task and with the node`() async throws {
        let node = Node.withoutTimeouts(.client)
        let cancelled = Task {
            var changes = node.listingChanges.makeAsyncIterator()
            return await changes.next() == nil
        }
        let timed = Task {
            var changes = node.listingChanges.makeAsyncIterator()
            _ = try await changes.next(deadline: .testDeadline)
        }
        let watching = Task {
            var count = 0
            for await _ in node.listingChanges { count += 1 }
            return count
        }
        try await eventually { node.core.watchers.count == 3 }
        cancelled.cancel()
        timed.cancel()
        #expect(await cancelled.value)
        await #expect(throws: CancellationError.self) { try await timed.value }
        try await eventually { node.core.watchers.count == 1 }
        await node.shutdown()
        #expect(await watching.value == 0)
        // A watcher that starts after the shutdown ends at once.
        for await _ in node.listingChanges { Issue.record("a change after the shutdown") }
        #expect(node.core.watchers.count == 0)
    }
}
