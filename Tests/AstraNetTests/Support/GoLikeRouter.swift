import AstraNet
import NIOConcurrencyHelpers
import NIOCore

/// A router that implements exactly the behaviour of a Go router. It forwards every op whose destination is neither 0
/// nor its own id unchanged, passes on the SERVICEs of its direct peers every 50 ms, and sends RST when it loses a
/// host.
final class GoLikeRouter: Sendable {
    let host = HostID.random()
    private let listener: RawListener
    private let storage = NIOLockedValueBox(Storage())

    private struct Storage {
        var peers: [HostID: RawPeer] = [:]
        /// The services of each direct peer.
        var offers: [HostID: [Address: Set<String>]] = [:]
        /// For each destination host, the hosts that have sent it an op.
        var contacts: [HostID: Set<HostID>] = [:]
        var sent: [HostID: [WireOp]] = [:]
        var broken: [String] = []
    }

    var port: Int { listener.port }
    /// The protocol violations of the nodes.
    var broken: [String] { storage.withLockedValue { $0.broken } }

    /// All ops that the router sent to `host`.
    func sent(to host: HostID) -> [WireOp] { storage.withLockedValue { $0.sent[host] ?? [] } }

    init() async throws {
        listener = try await RawPeer.listen()
        let listener = listener
        Task {
            await withDiscardingTaskGroup { group in
                while let raw = await listener.peers.next() { group.addTask { await self.serve(raw) } }
            }
        }
    }

    /// Ends all links at once.
    func close() async throws {
        try await listener.close()
        listener.peers.finish()
        for peer in storage.withLockedValue({ $0.peers.values }) { await peer.close() }
    }

    private func serve(_ raw: RawPeer) async {
        raw.send(
            WireOp(.handshake, to: .otherEnd, from: Address(host, 0), text: #"{"RAddr":"127.0.0.1:5555"}"#))
        guard let first = await raw.ops.next(), first.command == .handshake else { return await raw.close() }
        let peer = first.source.host
        let known = storage.withLockedValue { storage in
            storage.peers[peer] = raw
            return storage.offers.values.joined()
        }
        for (address, names) in known {
            for name in names { send(WireOp(.service, to: .otherEnd, from: address, text: name), to: peer) }
        }
        while let op = await raw.ops.next() { take(op, from: peer) }
        let (lost, contacts) = storage.withLockedValue { storage in
            storage.peers[peer] = nil
            return (storage.offers.removeValue(forKey: peer) ?? [:], storage.contacts.removeValue(forKey: peer) ?? [])
        }
        for (address, names) in lost {
            for name in names { relay(WireOp(.noService, to: .otherEnd, from: address, text: name), from: peer) }
        }
        for contact in contacts { send(WireOp(.rst, to: Address(contact, 0), from: Address(peer, 0)), to: contact) }
    }

    private func take(_ op: WireOp, from peer: HostID) {
        if op.payload.count > 65_536 {
            recordViolation("\(op.command) of \(op.payload.count) bytes does not fit the reader")
        }
        if op.source.host != peer { recordViolation("\(op.command) in the name of \(op.source.host)") }
        if op.destination.host.rawValue != 0, op.destination.host != host { return forward(op, from: peer) }
        switch op.command {
        case .ping: send(WireOp(.pong, to: op.source, from: op.destination), to: peer)
        case .service:
            storage.withLockedValue { _ = $0.offers[peer, default: [:]][op.source, default: []].insert(op.text) }
            announce(op, from: peer)
        case .noService:
            storage.withLockedValue { _ = $0.offers[peer]?[op.source]?.remove(op.text) }
            announce(op, from: peer)
        case .pong, .follow, .discover: break
        default: recordViolation("\(op.command) for the router itself")
        }
    }

    private func announce(_ op: WireOp, from peer: HostID) {
        listener.server.eventLoop.scheduleTask(in: .milliseconds(50)) { self.relay(op, from: peer) }
    }

    private func relay(_ op: WireOp, from peer: HostID) {
        for other in storage.withLockedValue({ $0.peers.keys }) where other != peer { send(op, to: other) }
    }

    private func forward(_ op: WireOp, from peer: HostID) {
        let isKnown = storage.withLockedValue { storage in
            storage.contacts[op.destination.host, default: []].insert(peer)
            return storage.peers[op.destination.host] != nil
        }
        if isKnown {
            send(op, to: op.destination.host)
        } else {
            send(WireOp(.rst, to: Address(peer, 0), from: Address(op.destination.host, 0)), to: peer)
        }
    }

    private func send(_ op: WireOp, to peer: HostID) {
        let raw = storage.withLockedValue { storage in
            storage.sent[peer, default: []].append(op)
            return storage.peers[peer]
        }
        raw?.send(op)
    }

    private func recordViolation(_ rule: String) {
        storage.withLockedValue { $0.broken.append(rule) }
    }
}
