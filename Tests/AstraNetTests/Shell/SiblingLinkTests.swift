import AstraNet
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

/// Ops for streams of another link to the same host, while the event loop of that link is blocked.
@Suite(.timeLimit(.minutes(5))) struct SiblingLinkTests {
    /// A node with two links to one router, each on its own event loop. The event loop of the first is blocked until
    /// `end`.
    private struct BlockedLink {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 2)
        let node: Node
        let peers: [RawPeer]
        let gate = ConditionLock(value: 0)

        init() async throws {
            var configuration = NodeConfiguration.withoutTimeouts()
            configuration.maximumBufferedPerLink = 1 << 20
            node = Node(configuration: configuration, group: group, logger: .silent)
            let address = try await node.listening()
            let router = HostID.random()
            var peers: [RawPeer] = []
            var loops: Set<ObjectIdentifier> = []
            while loops.count < 2 {
                let peer = try await RawPeer.connect(to: address, host: router)
                #expect(await peer.handshake() == node.id)
                _ = await peer.opsUntilPong()
                let links = node.core.directory.links
                let newest = try #require(links.max { $0.id < $1.id })
                // The test cannot choose the event loop of a connection, so it tries until it has two.
                if loops.insert(ObjectIdentifier(newest.eventLoop)).inserted {
                    peers.append(peer)
                } else {
                    await peer.close()
                }
            }
            self.peers = peers
            let first = try #require(node.core.directory.links.min { $0.id < $1.id })
            let gate = gate
            first.eventLoop.execute {
                gate.lock(whenValue: 1)
                gate.unlock()
            }
        }

        func end() async throws {
            gate.lock()
            gate.unlock(withValue: 1)
            for peer in peers { await peer.close() }
            try await eventually { [node] in node.bufferedBytes == 0 && node.linkCount == 0 }
            await node.shutdown()
            try await group.shutdownGracefully()
        }
    }

    @Test func `too many bytes that wait for another link fail their stream`() async throws {
        let blocked = try await BlockedLink()
        let peer = blocked.peers[1]
        let far = Address(.random(), 9)
        let payload = [UInt8](repeating: 1, count: 60_000)
        peer.send((0..<10).map { _ in WireOp(.data, to: Address(blocked.node.id, 5), from: far, payload: payload) })
        let answers = await peer.opsUntilPong()
        #expect(answers.first { $0.command == .err }?.destination == far)
        #expect(blocked.node.bufferedBytes <= 1 << 18)
        try await blocked.end()
    }

    @Test func `too many control ops that wait for another link end their own link`() async throws {
        let blocked = try await BlockedLink()
        let peer = blocked.peers[1]
        let op = WireOp(.rewind, to: Address(blocked.node.id, 5), from: Address(.random(), 9), payload: [0, 0, 0, 1])
        let many = [[UInt8]](repeating: op.encoded, count: 10_000).flatMap { $0 }
        // Ends only because the node closes the link.
        while await peer.sendAll(many) {}
        await peer.closed()
        try await eventually { blocked.node.bufferedBytes <= 1 << 18 }
        try await blocked.end()
    }
}
