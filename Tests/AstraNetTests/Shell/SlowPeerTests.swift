import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import AstraNet

/// Peers that are slow to hear of very many services, or never do: what they are to be told waits, bounded and in order.
@Suite(.timeLimit(.minutes(5))) struct SlowPeerTests {
    /// What a peer has been told, in order.
    private final class Heard: Sendable {
        private struct Storage {
            var offered: Set<String> = []
            var unexpected: [String] = []
            var pongs = 0
        }

        private let storage = NIOLockedValueBox(Storage())

        var offered: Set<String> { storage.withLockedValue { $0.offered } }
        /// Offers that were known, and withdrawals of what was not.
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
        return try #require(
            node.core.shared.withLockedValue { shared in shared.peers.link(to: host).flatMap { shared.links[$0] } })
    }

    @Test func aRouterWithVeryManyServicesTellsAPeerThatReadsSlowlyAllOfThem() async throws {
        let router = Node.patient(.router)
        let address = try await router.listening()
        let heard = Heard()
        let slow = try await RawPeer.connect(to: address, reads: false, receive: heard.take)
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
        #expect(router.services.count == count)
        #expect(link.heldAnnouncements > count / 2)
        let buffered = try await link.channel.getOption(.bufferedWritableBytes).get()
        #expect(buffered < 2 << 20)
        // Some of these have been told, and some are held; those that come and go now are nobody's business.
        try await say(.noService, stride(from: 0, to: count, by: 2))
        let held = link.heldAnnouncements
        for _ in 0..<3 {
            try await say(.service, count..<count + 5_000)
            try await say(.noService, count..<count + 5_000)
        }
        try await say(.service, [0, count])
        _ = await source.opsUntilPong()
        #expect(link.heldAnnouncements < held)
        // It reads piece by piece from now on, and asks something in the midst.
        try await slow.readSlowly()
        slow.send(WireOp(.ping, to: .otherEnd, from: Address(slow.host, 0)))
        let left = Set(stride(from: 1, to: count, by: 2).map(Self.name)).union([0, count].map(Self.name))
        try await eventually { heard.pongs == 1 && heard.offered.count == left.count && link.heldAnnouncements == 0 }
        #expect(heard.offered == left)
        // Withdrawn and offered again, it is announced again.
        #expect(heard.unexpected == [Self.name(0)])
        #expect(router.peers == [slow.host, source.host])
        await slow.close()
        await source.close()
        await router.shutdown()
    }

    @Test func whatIsToldToAPeerThatReadsNothingIsBoundedAndItsLinkIsClosedInTime() async throws {
        let node = Node.patient {
            $0.role = .server
            $0.stalledWriteTimeout = .seconds(2)
        }
        let address = try await node.listening()
        let silent = try await RawPeer.connect(to: address, reads: false)
        silent.sendHandshake()
        let link = try await link(of: node, to: silent.host)
        var listeners: [Listener] = []
        // Until the connection takes no more.
        while link.heldAnnouncements == 0, !link.isClosed {
            listeners.append(try node.bind(String(repeating: "n", count: 1_000) + "\(listeners.count)"))
        }
        let bound = listeners.count
        var most = 0
        for index in 0..<20_000 {
            try node.bind("\(index)").close()
            most = max(most, link.heldAnnouncements)
        }
        #expect(most <= bound + 1)
        try await eventually { node.linkCount == 0 }
        silent.channel.close(promise: nil)
        for listener in listeners { listener.close() }
        await node.shutdown()
    }

    @Test func aNameIsAnnouncedAheadOfTheBytesThatTellItAlsoToASlowPeer() async throws {
        let siege = try await Besieged()
        let told = NIOLockedValueBox<[WireOp]>([])
        let slow = try await RawPeer.connect(to: siege.address, reads: false) { op in
            guard [.service, .data].contains(op.command) else { return }
            told.withLockedValue { $0.append(op) }
        }
        slow.sendHandshake()
        slow.send(slow.op(.dial, to: siege.target.address, from: 5))
        slow.send(slow.op(.ack, to: siege.target.address, from: 5))
        let master = try await siege.target.nextStream(deadline: .soon)
        let link = master.link
        var names: [Listener] = []
        while link.heldAnnouncements < 10_000 {
            names.append(
                try siege.node.bind(String(repeating: "s", count: 1_000) + "\(names.count)", visibleTo: master))
        }
        let last = try siege.node.bind("last", visibleTo: master)
        try await master.send(ByteBuffer(string: "last"), deadline: .soon)
        try await slow.readSlowly()
        try await eventually { told.withLockedValue { $0.last?.command == .data } }
        let ops = told.withLockedValue { $0 }
        #expect(ops.dropLast().last?.text == "last")
        #expect(ops.dropLast().map(\.text).filter { $0.hasPrefix("s") } == names.map(\.name))
        for name in names + [last] { name.close() }
        master.close()
        await slow.close()
        try await siege.end()
    }
}
