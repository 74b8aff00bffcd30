import AstraNet
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Peers that read slowly or not at all while very many services change. Their announcements are held, in order and in
/// bounded memory.
@Suite(.timeLimit(.minutes(5))) struct SlowPeerTests {
    /// Records the announcements that a peer receives.
    private final class ReceivedAnnouncements: Sendable {
        private struct Storage {
            var offered: Set<String> = []
            var unexpected: [String] = []
            var pongs = 0
        }

        private let storage = NIOLockedValueBox(Storage())

        var offered: Set<String> { storage.withLockedValue { $0.offered } }
        /// Offers that were already known, and withdrawals of unknown offers.
        var unexpected: [String] { storage.withLockedValue { $0.unexpected } }
        var pongs: Int { storage.withLockedValue { $0.pongs } }

        func take(_ op: WireOp) {
            storage.withLockedValue { storage in
                switch op.command {
                case .service:
                    if !storage.offered.insert(op.text).inserted { storage.unexpected.append(op.text) }
                case .noService:
                    if storage.offered.remove(op.text) == nil { storage.unexpected.append(op.text) }
                case .pong: storage.pongs += 1
                default: break
                }
            }
        }
    }

    private static func name(_ index: Int) -> String { String(repeating: "n", count: 100) + "\(index)" }

    private func link(of node: Node, to host: HostID) async throws -> Link {
        try await eventually { node.peers.contains(host) }
        return try #require(node.core.directory.links(to: host).first)
    }

    @Test func `a router announces 200,000 services to a peer that reads slowly`() async throws {
        let router = Node.withoutTimeouts(.router)
        let address = try await router.listening()
        let received = ReceivedAnnouncements()
        let slow = try await RawPeer.connect(to: address, reads: false, receive: received.take)
        slow.sendHandshake()
        let link = try await link(of: router, to: slow.host)
        let source = try await RawPeer.connect(to: address)
        #expect(await source.handshake() == router.id)
        let count = 200_000
        func say(_ command: Command, _ indices: some Sequence<Int>) async throws {
            let ops = indices.flatMap { index in
                WireOp(command, to: .otherEnd, from: Address(source.host, UInt32(index)), text: Self.name(index))
                    .encoded
            }
            try #require(await source.sendAll(ops))
        }
        for start in stride(from: 0, to: count, by: 10_000) { try await say(.service, start..<start + 10_000) }
        _ = await source.opsUntilPong()
        #expect(router.offerCount == count)
        #expect(link.heldAnnouncements > count / 2)
        let buffered = try await link.channel.getOption(.bufferedWritableBytes).get()
        #expect(buffered < 2 << 20)
        // Some of these are announced and some are held. Services that are offered and withdrawn now are not announced.
        try await say(.noService, stride(from: 0, to: count, by: 2))
        let held = link.heldAnnouncements
        for _ in 0..<3 {
            try await say(.service, count..<count + 5_000)
            try await say(.noService, count..<count + 5_000)
        }
        try await say(.service, [0, count])
        _ = await source.opsUntilPong()
        #expect(link.heldAnnouncements < held)
        // The peer starts to read slowly. Meanwhile it sends a PING.
        try await slow.readSlowly()
        slow.send(WireOp(.ping, to: .otherEnd, from: Address(slow.host, 0)))
        let left = Set(stride(from: 1, to: count, by: 2).map(Self.name)).union([0, count].map(Self.name))
        try await eventually {
            received.pongs == 1 && received.offered.count == left.count && link.heldAnnouncements == 0
        }
        #expect(received.offered == left)
        // Service 0 was withdrawn and offered again, so it is announced again.
        #expect(received.unexpected == [Self.name(0)])
        #expect(router.linkCount == 2)
        await slow.close()
        await source.close()
        await router.shutdown()
    }

    /// Binds names until the connection to a peer is full and at least 1,000 announcements are held.
    private func fill(_ link: Link, _ bind: (String) throws -> Listener) throws -> [Listener] {
        var listeners: [Listener] = []
        while link.heldAnnouncements < 1_000 || link.channel.isWritable {
            try #require(!link.isClosed)
            listeners.append(try bind(String(repeating: "n", count: 1_000) + "\(listeners.count)"))
        }
        return listeners
    }

    @Test func `services that come and go while a peer does not read use no memory`() async throws {
        let node = Node.withoutTimeouts(.server)
        let silent = try await RawPeer.connect(to: try await node.listening(), reads: false)
        silent.sendHandshake()
        let link = try await link(of: node, to: silent.host)
        let listeners = try fill(link, { try node.bind($0) })
        // The connection may still take some of the held announcements.
        let held = link.heldAnnouncements
        for index in 0..<20_000 { try node.bind("\(index)").close() }
        #expect(!link.isClosed)
        #expect(link.heldAnnouncements <= held)
        silent.channel.close(promise: nil)
        try await eventually { node.linkCount == 0 }
        #expect(link.heldAnnouncements == 0)
        for listener in listeners { listener.close() }
        await node.shutdown()
    }

    @Test func `the link of a peer that does not read is closed at the stall timeout`() async throws {
        let node = Node.withoutTimeouts {
            $0.role = .server
            $0.stalledWriteTimeout = .seconds(1)
        }
        let silent = try await RawPeer.connect(to: try await node.listening(), reads: false)
        silent.sendHandshake()
        let link = try await link(of: node, to: silent.host)
        let handler = try await link.eventLoop.submit { NIOLoopBound(link.handler.value, eventLoop: link.eventLoop) }
            .get()
        // More than the connection takes, and more than the limit of other control ops.
        let listeners = try (0..<20_000).map { try node.bind(String(repeating: "n", count: 1_000) + "\($0)") }
        try await eventually { node.linkCount == 0 }
        let reason = try await link.eventLoop.submit { handler.value?.closeReason }.get()
        #expect(reason?.message == "the peer took no bytes for 1 s")
        silent.channel.close(promise: nil)
        for listener in listeners { listener.close() }
        await node.shutdown()
    }

    @Test func `a private name is announced to a slow peer before the bytes that contain it`() async throws {
        let harness = try await HostilePeerHarness()
        let received = NIOLockedValueBox<[WireOp]>([])
        let slow = try await RawPeer.connect(to: harness.address, reads: false) { op in
            guard [.service, .data].contains(op.command) else { return }
            received.withLockedValue { $0.append(op) }
        }
        slow.sendHandshake()
        slow.send(slow.op(.dial, to: harness.target.address, from: 5))
        slow.send(slow.op(.ack, to: harness.target.address, from: 5))
        let master = try await harness.target.nextStream(deadline: .testDeadline)
        let link = master.link
        let names = try fill(link, { try harness.node.bind($0, visibleTo: master) })
        let last = try harness.node.bind("last", visibleTo: master)
        try await master.send(ByteBuffer(string: "last"), deadline: .testDeadline)
        try await slow.readSlowly()
        try await eventually { received.withLockedValue { $0.last?.command == .data } }
        let ops = received.withLockedValue { $0 }
        #expect(ops.dropLast().last?.text == "last")
        #expect(ops.dropLast().map(\.text).filter { $0.hasPrefix("n") } == names.map(\.name))
        for name in names + [last] { name.close() }
        master.close()
        await slow.close()
        try await harness.end()
    }
}
