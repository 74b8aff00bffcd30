import AstraNet
import NIOConcurrencyHelpers
import NIOCore

/// A peer that implements exactly the behaviour of a Go node, and records each op with which the node under test relies
/// on anything else.
///
/// It reads through a 64 KiB buffer, waits for SYN_ACK before it writes, returns credit after each read, announces
/// services every 50 ms, closes with FIN2 alone, and ignores ERR and unknown keys.
final class GoLikePeer: Sendable {
    let raw: RawPeer
    var host: HostID { raw.host }
    private let storage = NIOLockedValueBox(Storage())

    private struct Storage {
        var node: HostID?
        var lastPort: UInt32 = 1 << 24
        var streams: [Key: GoLikeStream] = [:]
        var dialing: [UInt32: (target: Address, answer: EventQueue<GoLikeStream>)] = [:]
        var unconfirmed: Set<Key> = []
        var listeners: [UInt32: EventQueue<GoLikeStream>] = [:]
        var offers: [String: Address] = [:]
        var lookups: [String: [EventQueue<Address>]] = [:]
        var announcements: [WireOp] = []
        var isAnnouncing = false
        var broken: [String] = []
    }

    private struct Key: Hashable {
        var local: UInt32
        var remote: Address
    }

    /// Whether the node is a router, which forwards ops of other hosts.
    private let isBehindRouter: Bool

    /// The port that this peer announces in FOLLOW.
    private let follows: Int
    /// A port without a listener.
    static let nowhere = 5_999

    private init(_ raw: RawPeer, isBehindRouter: Bool, follows: Int) {
        self.raw = raw
        self.isBehindRouter = isBehindRouter
        self.follows = follows
    }

    /// Joins a node.
    static func join(
        _ address: SocketAddress, host: HostID = .random(), behindRouter: Bool = false, follows: Int = nowhere
    ) async throws -> GoLikePeer {
        let peer = GoLikePeer(
            try await RawPeer.connect(to: address, host: host), isBehindRouter: behindRouter, follows: follows)
        peer.start()
        return peer
    }

    /// Starts a peer on a connection that a node has made.
    static func accept(_ raw: RawPeer, follows: Int = nowhere) -> GoLikePeer {
        let peer = GoLikePeer(raw, isBehindRouter: false, follows: follows)
        peer.start()
        return peer
    }

    private func start() {
        raw.sendHandshake()
        raw.send(WireOp(.follow, to: .otherEnd, from: Address(host, 0), text: "127.0.0.1:\(follows)"))
        let raw = raw
        Task {
            while let op = await raw.ops.next() { self.take(op) }
            let (streams, lookups, listeners) = self.storage.withLockedValue { storage in
                (Array(storage.streams.values), storage.lookups.values.joined(), Array(storage.listeners.values))
            }
            for stream in streams { stream.linkGone() }
            for lookup in lookups { lookup.finish() }
            for listener in listeners { listener.finish() }
        }
    }

    /// The protocol violations of the node under test.
    var broken: [String] { storage.withLockedValue { $0.broken } }

    func close() async { await raw.close() }

    // MARK: - Services

    /// Binds a service on a fresh port. The next batch announces it, at most 50 ms later.
    func bind(_ name: String) -> (port: UInt32, streams: EventQueue<GoLikeStream>) {
        let streams = EventQueue<GoLikeStream>()
        let port = storage.withLockedValue { storage in
            storage.lastPort += 1
            storage.listeners[storage.lastPort] = streams
            return storage.lastPort
        }
        announce(WireOp(.service, to: .otherEnd, from: Address(host, port), text: name))
        return (port, streams)
    }

    func unbind(_ name: String, port: UInt32) {
        storage.withLockedValue { $0.listeners[port] = nil }
        announce(WireOp(.noService, to: .otherEnd, from: Address(host, port), text: name))
    }

    private func announce(_ op: WireOp) {
        let mustSchedule = storage.withLockedValue { storage in
            storage.announcements.append(op)
            defer { storage.isAnnouncing = true }
            return !storage.isAnnouncing
        }
        guard mustSchedule else { return }
        raw.channel.eventLoop.scheduleTask(in: .milliseconds(50)) {
            self.raw.send(
                self.storage.withLockedValue { storage in
                    defer { storage.announcements = [] }
                    storage.isAnnouncing = false
                    return storage.announcements
                })
        }
    }

    // MARK: - Dialling

    /// Opens a stream to a service of the node. Returns `nil` if the link ends before that.
    func dial(_ name: String) async -> GoLikeStream? {
        let lookup = EventQueue<Address>()
        let known = storage.withLockedValue { storage in
            if storage.offers[name] == nil { storage.lookups[name, default: []].append(lookup) }
            return storage.offers[name]
        }
        var found = known
        if found == nil { found = await lookup.next() }
        guard let target = found else { return nil }
        let answer = EventQueue<GoLikeStream>()
        let port = storage.withLockedValue { storage in
            storage.lastPort += 1
            storage.dialing[storage.lastPort] = (target, answer)
            return storage.lastPort
        }
        raw.send(WireOp(.dial, to: target, from: Address(host, port)))
        return await answer.next()
    }

    // MARK: - Reading ops

    private func take(_ op: WireOp) {
        if op.payload.count > 65_536 {
            recordViolation("\(op.command) of \(op.payload.count) bytes does not fit the reader")
            raw.channel.close(promise: nil)
            return
        }
        let node = storage.withLockedValue { $0.node }
        guard let node else {
            if op.command == .handshake {
                storage.withLockedValue { $0.node = op.source.host }
            } else {
                recordViolation("\(op.command) before the handshake")
            }
            return
        }
        if op.source.host != node, !isBehindRouter { recordViolation("\(op.command) from host \(op.source.host)") }
        if op.destination.host != host, op.destination.host.rawValue != 0 {
            recordViolation("\(op.command) for host \(op.destination.host)")
        }
        switch op.command {
        case .ping: raw.send(WireOp(.pong, to: op.source, from: op.destination))
        case .service:
            let lookups = storage.withLockedValue { storage in
                storage.offers[op.text] = op.source
                return storage.lookups.removeValue(forKey: op.text) ?? []
            }
            for lookup in lookups { lookup.append(op.source) }
        case .noService: storage.withLockedValue { $0.offers[op.text] = nil }
        case .dial: takeDial(op)
        case .syn: takeSyn(op)
        case .discover:
            raw.send(
                WireOp(.follow, to: Address(op.source.host, 0), from: Address(host, 0), text: "127.0.0.1:\(follows)"))
        case .rst:
            let dead = storage.withLockedValue { storage in
                storage.offers = storage.offers.filter { $0.value.host != op.source.host }
                return storage.streams.filter { $0.key.remote.host == op.source.host }.values
            }
            for stream in dead { stream.linkGone() }
        case .pong, .follow: break
        case .handshake: recordViolation("a second handshake")
        default: takeStreamOp(op)
        }
    }

    private func takeDial(_ op: WireOp) {
        let isListening = storage.withLockedValue { $0.listeners[op.destination.port] != nil }
        // A Go node ignores a DIAL that no listener takes.
        guard isListening else { return }
        let key = Key(local: op.destination.port, remote: op.source)
        let stream = GoLikeStream(local: Address(host, op.destination.port), remote: op.source, peer: self)
        storage.withLockedValue { storage in
            storage.streams[key] = stream
            storage.unconfirmed.insert(key)
        }
        raw.send(WireOp(.syn, to: op.source, from: stream.local))
    }

    private func takeSyn(_ op: WireOp) {
        let dial = storage.withLockedValue { $0.dialing.removeValue(forKey: op.destination.port) }
        guard let dial, dial.target == op.source else { return recordViolation("SYN without a DIAL") }
        let key = Key(local: op.destination.port, remote: op.source)
        let stream = GoLikeStream(local: Address(host, op.destination.port), remote: op.source, peer: self)
        storage.withLockedValue { $0.streams[key] = stream }
        raw.send(WireOp(.ack, to: op.source, from: stream.local))
        dial.answer.append(stream)
    }

    private func takeStreamOp(_ op: WireOp) {
        let key = Key(local: op.destination.port, remote: op.source)
        let (stream, isUnconfirmed) = storage.withLockedValue { ($0.streams[key], $0.unconfirmed.contains(key)) }
        guard let stream else {
            if op.command == .data { recordViolation("DATA for an unknown stream") }
            return
        }
        switch op.command {
        case .ack where isUnconfirmed:
            let listener = storage.withLockedValue { storage in
                storage.unconfirmed.remove(key)
                return storage.listeners[key.local]
            }
            stream.confirmed()
            raw.send(WireOp(.synAck, to: op.source, from: stream.local))
            listener?.append(stream)
        case .synAck: stream.confirmed()
        default:
            if isUnconfirmed, op.command == .data { recordViolation("DATA before ACK") }
            if let rule = stream.received(op) { recordViolation("\(op.command): \(rule)") }
        }
    }

    private func recordViolation(_ rule: String) {
        storage.withLockedValue { $0.broken.append(rule) }
    }
}
