import AstraNet
import NIOCore

/// Reads the ops on one connection and reports where an end breaks a rule of the protocol. It considers only what this
/// end had sent and received at that time, not ops that are still in flight.
final class WireMonitor {
    private let world: World
    private let name: String
    private let hosts: [Int]
    private let areOurs: [Bool]
    private var sentDecoders = [WireDecoder(), WireDecoder()]
    private var receivedDecoders = [WireDecoder(), WireDecoder()]
    /// What each side announced in its HANDSHAKE.
    private(set) var identities: [Identity?] = [nil, nil]
    private var hasHandshake = [false, false]
    /// The streams of the two hosts, shared by all of their connections: an answer may arrive over a second connection.
    private let book: StreamBook
    /// Whether side 0 of the book is side 1 of this connection.
    private let isTurned: Bool
    /// Number of SERVICEs and NO_SERVICEs that each side sent.
    private(set) var announcements = [0, 0]
    /// The side of the adversary; `nil` if it has no end of this connection.
    private let hostileSide: Int?
    /// The ops of the adversary that have arrived, and that the access rules of the other end do not allow.
    private(set) var hostile = HostileOps()

    /// Numbers of ops of the adversary by the reason why they are refused.
    struct HostileOps {
        /// Ops of other hosts than the one that the adversary claims to be.
        var forged = 0
        /// SERVICE ops with the claimed host as their source.
        var services = 0
    }

    struct Identity {
        var host: HostID
        var isEager: Bool
        var canPush: Bool
        var largestOp: Int
    }

    init(world: World, name: String, hosts: [Int], areOurs: [Bool], book: StreamBook) {
        self.book = book
        isTurned = hosts[0] > hosts[1]
        self.world = world
        self.name = name
        self.hosts = hosts
        self.areOurs = areOurs
        hostileSide = hosts.firstIndex { $0 == world.hostiles.host }
    }

    /// Whether both handshakes have arrived.
    var isUp: Bool { hasHandshake[0] && hasHandshake[1] }

    func sent(_ bytes: ByteBuffer, by side: Int) {
        sentDecoders[side].append(bytes)
        while let op = sentDecoders[side].next() {
            world.mix(UInt64(op.command.rawValue) ^ world.now ^ op.source.host.rawValue &* 31)
            world.mix(UInt64(op.payload.readableBytes) ^ UInt64(op.source.port) << 32 ^ UInt64(op.destination.port))
            if op.command != .ping, op.command != .pong { world.note("n\(hosts[side])>n\(hosts[1 - side]) \(op)") }
            guard hostileSide == nil else {
                // The adversary keeps no rule, and may make the other end break those that both ends must keep.
                if op.command == .handshake, identities[side] == nil { readHandshake(op, side) }
                continue
            }
            if !isHostile(op, sentBy: side) { look(at: op, sentBy: side) }
        }
    }

    func delivered(_ bytes: ByteBuffer, to side: Int) {
        receivedDecoders[side].append(bytes)
        while let op = receivedDecoders[side].next() {
            if let hostileSide, op.command != .handshake {
                if side != hostileSide { count(op, from: hostileSide) }
            } else if !isHostile(op, sentBy: 1 - side) {
                look(at: op, deliveredTo: side)
            }
        }
    }

    // MARK: - The adversary

    /// Whether the adversary may have made the op behind one of the two hosts, or may receive it there.
    private func isHostile(_ op: WireOp, sentBy side: Int) -> Bool {
        guard world.hostiles.id != nil, identities[side] != nil else { return false }
        return [op.source.host, op.destination.host].contains { host in
            !identities.contains { $0?.host == host } && hosts.contains { world.hostiles.uses(host, at: $0) }
        }
    }

    private func count(_ op: WireOp, from side: Int) {
        guard hasHandshake[1 - side], let claimed = identities[side]?.host else { return }
        world.hostiles.received += 1
        let destination = op.destination.host
        guard destination.rawValue == 0 || destination == identities[1 - side]?.host else { return }
        if op.source.host != claimed {
            if op.source.host.rawValue != 0 { hostile.forged += 1 }
        } else if op.command == .service, (1...1_024).contains(op.payload.readableBytes), !Self.isSourceName(op.text) {
            hostile.services += 1
        }
    }

    /// Whether a node may take the name for that of a source of its own request.
    private static func isSourceName(_ name: String) -> Bool { name.utf8.count == 36 }

    // MARK: - Sent

    private func look(at op: WireOp, sentBy side: Int) {
        let isForPeer = op.destination.host.rawValue == 0 || op.destination.host == identities[1 - side]?.host
        let limit = isForPeer && hasHandshake[side] ? identities[1 - side]?.largestOp ?? 65_536 : 65_536
        if op.payload.readableBytes > limit {
            recordViolation(side, "\(op.command) of \(op.payload.readableBytes) bytes, more than the limit of \(limit)")
        }
        switch op.command {
        case .handshake: readHandshake(op, side)
        case .service, .noService: announcements[side] += 1
        case .dial:
            let key = key(op, side)
            if book.streams[key] != nil { recordViolation(side, "a second DIAL for one stream: \(op)") }
            var view = StreamBook.View(dialer: bookSide(side))
            checkBlock(op, side, &view)
            book.streams[key] = view
            if world.hostiles.id != nil { book.dialled(from: op.source, to: op.destination) }
        case .ack:
            checkBlock(op, side)
            book.streams[key(op, side)]?.ackSent = true
        case .syn: checkSyn(op, side)
        case .fin1, .err, .forceClosed: checkEnd(op, side)
        case .data where op.payload.readableBytes > 0: checkData(op, side)
        case .fin2:
            book.streams[key(op, side)]?.finished[bookSide(side)] = true
            checkEnd(op, side)
        default: break
        }
        if identities[side] == nil { recordViolation(side, "\(op.command) before HANDSHAKE") }
    }

    private func readHandshake(_ op: WireOp, _ side: Int) {
        guard identities[side] == nil else { return recordViolation(side, "a second HANDSHAKE") }
        var largest = 65_536
        if let place = op.text.range(of: "\"MaxOp\":") {
            largest = Int(op.text[place.upperBound...].prefix { $0.isNumber }) ?? largest
        }
        identities[side] = Identity(
            host: op.source.host, isEager: op.text.contains("\"eager\""), canPush: op.text.contains("\"push\""),
            largestOp: largest)
    }

    // MARK: - Pushed sources (`docs/protocol.md` §6)

    /// Checks the block of a DIAL or ACK.
    private func checkBlock(_ op: WireOp, _ side: Int) {
        guard op.payload.readableBytes > 0 else { return }
        guard op.block != nil else { return recordViolation(side, "an invalid block: \(op)") }
        if isDirect(op, side), identities.contains(where: { $0?.canPush == false }) {
            recordViolation(side, "a block to a node without the ability push: \(op)")
        }
    }

    private func checkBlock(_ op: WireOp, _ side: Int, _ view: inout StreamBook.View) {
        checkBlock(op, side)
        guard let block = op.block else { return }
        view.grant = block.push
        view.hasCookie = block.cookie != nil
        guard let source = block.source else { return }
        // The master stream: the receiver of this DIAL dialled it, and the block contains the server's port.
        let master = key(from: op.destination, to: Address(host: op.source.host, port: source.streamPort), 1 - side)
        guard var request = book.streams[master], let grant = request.grant, request.dialer != bookSide(side) else {
            return recordViolation(side, "a source for a request without a grant: \(op)")
        }
        if grant.nonce != source.nonce { recordViolation(side, "a source with a wrong nonce: \(op)") }
        // Through a router an index may be missing: the router may have had no link to the client when it got that
        // DIAL.
        let isForwarded = op.source.host != identities[side]?.host
        if isForwarded ? source.index < request.pushed : source.index != request.pushed {
            recordViolation(side, "source \(source.index) after \(request.pushed): \(op)")
        }
        if isDirect(op, side) {
            if request.finished[bookSide(side)] {
                recordViolation(side, "a source after the end of its request: \(op)")
            }
        } else if !request.hasCookie, !request.ackArrived {
            recordViolation(side, "a source for a client that has not returned a cookie: \(op)")
        }
        request.pushed = source.index + 1
        request.unaccepted += 1
        if request.unaccepted > Int(grant.maximumSources) {
            recordViolation(
                side, "\(request.unaccepted) unaccepted sources, more than the granted \(grant.maximumSources): \(op)")
        }
        book.streams[master] = request
        view.master = master
        view.isEager = true
        view.window[bookSide(side)] = min(65_536, Int(grant.window))
    }

    /// Checks a SYN: a client accepts a source, or a listener a stream.
    private func checkSyn(_ op: WireOp, _ side: Int) {
        checkBlock(op, side)
        let key = key(op, side)
        guard let stream = book.streams[key], stream.dialer != bookSide(side) else { return }
        if stream.synSent { recordViolation(side, "a second SYN for one stream: \(op)") }
        if stream.master != nil, stream.finished[bookSide(side)] {
            recordViolation(side, "a source is accepted after it was declined: \(op)")
        }
        book.streams[key]?.synSent = true
    }

    /// Checks the end of a stream. On a direct link a source that its server ends with an error no longer counts.
    private func checkEnd(_ op: WireOp, _ side: Int) {
        guard op.command == .err || op.command == .forceClosed, isDirect(op, side) else { return }
        settle(key(op, side))
    }

    /// Counts a source as no longer unaccepted.
    private func settle(_ key: StreamBook.Key) {
        guard let master = book.streams[key]?.master, book.streams[key]?.isSettled == false else { return }
        book.streams[key]?.isSettled = true
        book.streams[master]?.unaccepted -= 1
    }

    private func isDirect(_ op: WireOp, _ side: Int) -> Bool {
        op.source.host == identities[side]?.host
            && (op.destination.host == identities[1 - side]?.host || op.destination.host.rawValue == 0)
    }

    private func checkData(_ op: WireOp, _ side: Int) {
        let key = key(op, side)
        guard var stream = book.streams[key] else {
            // A router may forward DATA although it could not forward the DIAL. The sender does not know that yet.
            guard op.source.host == identities[side]?.host else { return }
            return recordViolation(side, "DATA of a stream without a DIAL: \(op)")
        }
        let isDirect = isDirect(op, side)
        let isEager =
            stream.isEager || stream.hasCookie
            || isDirect && identities[0]?.isEager == true && identities[1]?.isEager == true
        let index = bookSide(side)
        let isAllowed =
            if index == stream.dialer {
                stream.isEager || stream.hasCookie || isEager && hasHandshake[side]
                    || stream.synArrived && stream.ackSent
            } else {
                isEager ? stream.dialArrived : stream.ackArrived
            }
        if !isAllowed { recordViolation(side, "DATA before the stream is open: \(op)") }
        if stream.finished[index], isDirect { recordViolation(side, "DATA after FIN2: \(op)") }
        stream.inFlight[index] += op.payload.readableBytes
        if stream.inFlight[index] > stream.window[index] {
            recordViolation(
                side, "\(stream.inFlight[index]) bytes in flight with a window of \(stream.window[index]): \(op)")
        }
        book.streams[key] = stream
    }

    // MARK: - Arrived

    private func look(at op: WireOp, deliveredTo side: Int) {
        if op.command == .handshake {
            hasHandshake[side] = true
            return
        }
        let key = key(op, 1 - side)
        guard var stream = book.streams[key] else { return }
        let index = bookSide(side)
        switch op.command {
        case .dial: stream.dialArrived = true
        case .syn where index == stream.dialer:
            stream.synArrived = true
            if stream.master != nil { stream.window[index] = max(stream.window[index], 65_536) }
        case .ack where index != stream.dialer: stream.ackArrived = true
        case .rewind:
            stream.inFlight[index] -= Int(op.number ?? 0)
            if stream.inFlight[index] < 0 { recordViolation(1 - side, "REWIND of more than was sent: \(op)") }
        case .windowSize: stream.window[index] = Int(op.number ?? 0)
        case .fin1, .fin2, .err, .forceClosed: break
        default: return
        }
        book.streams[key] = stream
        // The server now knows that the client accepted or declined its source.
        if index == stream.dialer, op.command != .dial, op.command != .rewind, op.command != .windowSize { settle(key) }
    }

    private func bookSide(_ side: Int) -> Int { isTurned ? 1 - side : side }

    private func key(_ op: WireOp, _ side: Int) -> StreamBook.Key {
        key(from: op.source, to: op.destination, side)
    }

    /// - Parameter side: the side of `source`.
    private func key(from source: Address, to destination: Address, _ side: Int) -> StreamBook.Key {
        var destination = destination
        if destination.host.rawValue == 0, let peer = identities[1 - side]?.host { destination.host = peer }
        return bookSide(side) == 0
            ? StreamBook.Key(near: source, far: destination) : StreamBook.Key(near: destination, far: source)
    }

    private func recordViolation(_ side: Int, _ rule: String) {
        world.broken("\(name), n\(hosts[side]) (\(areOurs[side] ? "ours" : "Go-like")): \(rule)")
    }
}

/// The streams on all connections between two hosts, as their senders know them.
final class StreamBook {
    var streams: [Key: View] = [:]
    /// The streams that were dialled last, of which the adversary guesses the ports.
    private(set) var recent: [(from: Address, to: Address)] = []

    func dialled(from source: Address, to destination: Address) {
        recent.append((source, destination))
        if recent.count > 16 { recent.removeFirst() }
    }

    /// The two addresses of a stream. `near` is on side 0.
    struct Key: Hashable {
        var near: Address
        var far: Address
    }

    struct View {
        let dialer: Int
        var dialArrived = false
        var synArrived = false
        var ackSent = false
        var ackArrived = false
        var finished = [false, false]
        /// By side, as the sender on that side knows it.
        var inFlight = [0, 0]
        var window = [65_536, 65_536]
        var synSent = false
        /// For a request: the grant of the client.
        var grant: DialBlock.Push?
        /// A request with a cookie is open at once, even through a router.
        var hasCookie = false
        var pushed: UInt32 = 0
        var unaccepted = 0
        /// For a pushed source: its request.
        var master: Key?
        /// The server knows that the client accepted or declined the source, or has ended it with an error.
        var isSettled = false
        /// A pushed source is open at once, even through a router.
        var isEager = false
    }
}

extension String {
    /// Replaces Foundation's method, because nothing else here needs Foundation.
    fileprivate func range(of text: String) -> Range<String.Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
            start = index(after: start)
        }
        return nil
    }
}
