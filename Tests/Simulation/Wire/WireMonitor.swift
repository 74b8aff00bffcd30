import AstraNet
import NIOCore

/// Reads along on one connection, and tells where an end breaks a rule of the protocol: from what each end had sent and had
/// received by then, not from what is still on its way.
final class WireMonitor {
    private let world: World
    private let name: String
    private let hosts: [Int]
    private let areOurs: [Bool]
    private var sentDecoders = [WireDecoder(), WireDecoder()]
    private var receivedDecoders = [WireDecoder(), WireDecoder()]
    /// What each side said of itself.
    private(set) var identities: [Identity?] = [nil, nil]
    private var heard = [false, false]
    /// Shared by all connections of the two hosts: where there are two, an answer may come over the other one.
    private let book: StreamBook
    /// Whether the book's side 0 is side 1 here.
    private let isTurned: Bool
    /// How many SERVICEs and NO_SERVICEs each side sent.
    private(set) var announcements = [0, 0]

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
    }

    /// Both handshakes have arrived.
    var isUp: Bool { heard[0] && heard[1] }

    func sent(_ bytes: ByteBuffer, by side: Int) {
        sentDecoders[side].append(bytes)
        while let op = sentDecoders[side].next() {
            world.mix(UInt64(op.command.rawValue) ^ world.now ^ op.source.host.rawValue &* 31)
            world.mix(UInt64(op.payload.readableBytes) ^ UInt64(op.source.port) << 32 ^ UInt64(op.destination.port))
            if op.command != .ping, op.command != .pong { world.note("n\(hosts[side])>n\(hosts[1 - side]) \(op)") }
            look(at: op, sentBy: side)
        }
    }

    func delivered(_ bytes: ByteBuffer, to side: Int) {
        receivedDecoders[side].append(bytes)
        while let op = receivedDecoders[side].next() { look(at: op, deliveredTo: side) }
    }

    // MARK: - Sent

    private func look(at op: WireOp, sentBy side: Int) {
        let isForPeer = op.destination.host.rawValue == 0 || op.destination.host == identities[1 - side]?.host
        let limit = isForPeer && heard[side] ? identities[1 - side]?.largestOp ?? 65_536 : 65_536
        if op.payload.readableBytes > limit {
            breaks(side, "\(op.command) of \(op.payload.readableBytes) bytes where \(limit) are allowed")
        }
        switch op.command {
        case .handshake: introduce(op, side)
        case .service, .noService: announcements[side] += 1
        case .dial:
            let key = key(op, side)
            if book.streams[key] != nil { breaks(side, "a second DIAL for one stream: \(op)") }
            var view = StreamBook.View(dialer: turned(side))
            lookAtBlock(op, side, &view)
            book.streams[key] = view
        case .ack:
            lookAtBlock(op, side)
            book.streams[key(op, side)]?.ackSent = true
        case .syn: lookAtSyn(op, side)
        case .fin1, .err, .forceClosed: lookAtEnd(op, side)
        case .data where op.payload.readableBytes > 0: lookAtData(op, side)
        case .fin2:
            book.streams[key(op, side)]?.finished[turned(side)] = true
            lookAtEnd(op, side)
        default: break
        }
        if identities[side] == nil { breaks(side, "\(op.command) before HANDSHAKE") }
    }

    private func introduce(_ op: WireOp, _ side: Int) {
        guard identities[side] == nil else { return breaks(side, "a second HANDSHAKE") }
        var largest = 65_536
        if let place = op.text.range(of: "\"MaxOp\":") {
            largest = Int(op.text[place.upperBound...].prefix { $0.isNumber }) ?? largest
        }
        identities[side] = Identity(
            host: op.source.host, isEager: op.text.contains("\"eager\""), canPush: op.text.contains("\"push\""),
            largestOp: largest)
    }

    // MARK: - Pushed sources (`docs/protocol.md` §6)

    /// The block of a DIAL or ACK.
    private func lookAtBlock(_ op: WireOp, _ side: Int) {
        guard op.payload.readableBytes > 0 else { return }
        guard op.block != nil else { return breaks(side, "a block that cannot be read: \(op)") }
        if isDirect(op, side), identities.contains(where: { $0?.canPush == false }) {
            breaks(side, "a block to a node that does not push: \(op)")
        }
    }

    private func lookAtBlock(_ op: WireOp, _ side: Int, _ view: inout StreamBook.View) {
        lookAtBlock(op, side)
        guard let block = op.block else { return }
        view.grant = block.push
        view.hasCookie = block.cookie != nil
        guard let source = block.source else { return }
        // The stream of the request: dialled by the host at the other end of this DIAL, to the port that the block says.
        let master = key(from: op.destination, to: Address(host: op.source.host, port: source.streamPort), 1 - side)
        guard var request = book.streams[master], let grant = request.grant, request.dialer != turned(side) else {
            return breaks(side, "a source of a request that grants none: \(op)")
        }
        if grant.nonce != source.nonce { breaks(side, "a source with another nonce: \(op)") }
        // A router forwards what it gets: a source before this one may have come when it had no link to the client.
        let isForwarded = op.source.host != identities[side]?.host
        if isForwarded ? source.index < request.pushed : source.index != request.pushed {
            breaks(side, "source \(source.index) after \(request.pushed): \(op)")
        }
        if isDirect(op, side) {
            if request.finished[turned(side)] { breaks(side, "a source behind the end of its request: \(op)") }
        } else if !request.hasCookie, !request.ackArrived {
            breaks(side, "a source for a client that has not proved itself: \(op)")
        }
        request.pushed = source.index + 1
        request.unaccepted += 1
        if request.unaccepted > Int(grant.maximumSources) {
            breaks(side, "\(request.unaccepted) unaccepted sources where \(grant.maximumSources) are granted: \(op)")
        }
        book.streams[master] = request
        view.master = master
        view.isEager = true
        view.window[turned(side)] = min(65_536, Int(grant.window))
    }

    /// The client takes a source, or a listener a stream.
    private func lookAtSyn(_ op: WireOp, _ side: Int) {
        lookAtBlock(op, side)
        let key = key(op, side)
        guard let stream = book.streams[key], stream.dialer != turned(side) else { return }
        if stream.synSent { breaks(side, "a second SYN for one stream: \(op)") }
        if stream.master != nil, stream.finished[turned(side)] {
            breaks(side, "a source is taken and was given up: \(op)")
        }
        book.streams[key]?.synSent = true
    }

    /// A server ends a source with an error: on a direct link it counts no more.
    private func lookAtEnd(_ op: WireOp, _ side: Int) {
        guard op.command == .err || op.command == .forceClosed, isDirect(op, side) else { return }
        settle(key(op, side))
    }

    /// A source waits for its client no longer.
    private func settle(_ key: StreamBook.Key) {
        guard let master = book.streams[key]?.master, book.streams[key]?.isSettled == false else { return }
        book.streams[key]?.isSettled = true
        book.streams[master]?.unaccepted -= 1
    }

    private func isDirect(_ op: WireOp, _ side: Int) -> Bool {
        op.source.host == identities[side]?.host
            && (op.destination.host == identities[1 - side]?.host || op.destination.host.rawValue == 0)
    }

    private func lookAtData(_ op: WireOp, _ side: Int) {
        let key = key(op, side)
        guard var stream = book.streams[key] else {
            // A router forwards what it gets, also where it could not forward the DIAL: the sender is yet to hear of that.
            guard op.source.host == identities[side]?.host else { return }
            return breaks(side, "DATA of a stream that no node dialled: \(op)")
        }
        let isDirect = isDirect(op, side)
        let isEager =
            stream.isEager || stream.hasCookie
            || isDirect && identities[0]?.isEager == true && identities[1]?.isEager == true
        let place = turned(side)
        let isAllowed =
            if place == stream.dialer {
                stream.isEager || stream.hasCookie || isEager && heard[side] || stream.synArrived && stream.ackSent
            } else {
                isEager ? stream.dialArrived : stream.ackArrived
            }
        if !isAllowed { breaks(side, "DATA before the stream is open: \(op)") }
        if stream.finished[place], isDirect { breaks(side, "DATA behind FIN2: \(op)") }
        stream.inFlight[place] += op.payload.readableBytes
        if stream.inFlight[place] > stream.window[place] {
            breaks(side, "\(stream.inFlight[place]) bytes under way with a window of \(stream.window[place]): \(op)")
        }
        book.streams[key] = stream
    }

    // MARK: - Arrived

    private func look(at op: WireOp, deliveredTo side: Int) {
        if op.command == .handshake {
            heard[side] = true
            return
        }
        let key = key(op, 1 - side)
        guard var stream = book.streams[key] else { return }
        let place = turned(side)
        switch op.command {
        case .dial: stream.dialArrived = true
        case .syn where place == stream.dialer:
            stream.synArrived = true
            if stream.master != nil { stream.window[place] = max(stream.window[place], 65_536) }
        case .ack where place != stream.dialer: stream.ackArrived = true
        case .rewind:
            stream.inFlight[place] -= Int(op.number ?? 0)
            if stream.inFlight[place] < 0 { breaks(1 - side, "REWIND of more than was sent: \(op)") }
        case .windowSize: stream.window[place] = Int(op.number ?? 0)
        case .fin1, .fin2, .err, .forceClosed: break
        default: return
        }
        book.streams[key] = stream
        // The server has heard what becomes of its source.
        if place == stream.dialer, op.command != .dial, op.command != .rewind, op.command != .windowSize { settle(key) }
    }

    private func turned(_ side: Int) -> Int { isTurned ? 1 - side : side }

    private func key(_ op: WireOp, _ side: Int) -> StreamBook.Key {
        key(from: op.source, to: op.destination, side)
    }

    /// - Parameter side: of the first address.
    private func key(from source: Address, to destination: Address, _ side: Int) -> StreamBook.Key {
        var destination = destination
        if destination.host.rawValue == 0, let peer = identities[1 - side]?.host { destination.host = peer }
        return turned(side) == 0
            ? StreamBook.Key(near: source, far: destination) : StreamBook.Key(near: destination, far: source)
    }

    private func breaks(_ side: Int, _ rule: String) {
        world.broken("\(name), n\(hosts[side]) (\(areOurs[side] ? "ours" : "Go-like")): \(rule)")
    }
}

/// The streams that run over the connections between two hosts, as those who send know them.
final class StreamBook {
    var streams: [Key: View] = [:]

    /// A stream by its two ends, that on side 0 first.
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
        /// By sender, as the sender knows it.
        var inFlight = [0, 0]
        var window = [65_536, 65_536]
        var synSent = false
        /// A request: what the client grants to pushed sources.
        var grant: DialBlock.Push?
        /// A request with a cookie is open at once, through a router too.
        var hasCookie = false
        var pushed: UInt32 = 0
        var unaccepted = 0
        /// A pushed source: its request.
        var master: Key?
        /// The server has heard that the source was taken or given up, or has said that it failed.
        var isSettled = false
        /// A pushed source is open at once, through a router too.
        var isEager = false
    }
}

extension String {
    /// Foundation's, which is not needed for anything else here.
    fileprivate func range(of text: String) -> Range<String.Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
            start = index(after: start)
        }
        return nil
    }
}
