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
            book.streams[key] = StreamBook.View(dialer: turned(side))
        case .ack: book.streams[key(op, side)]?.ackSent = true
        case .data where op.payload.readableBytes > 0: lookAtData(op, side)
        case .fin2: book.streams[key(op, side)]?.finished[turned(side)] = true
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
            host: op.source.host, isEager: op.text.contains("\"eager\""), largestOp: largest)
    }

    private func lookAtData(_ op: WireOp, _ side: Int) {
        let key = key(op, side)
        guard var stream = book.streams[key] else { return breaks(side, "DATA of a stream nobody dialled: \(op)") }
        let isDirect = op.source.host == identities[side]?.host && op.destination.host == identities[1 - side]?.host
        let isEager = isDirect && identities[0]?.isEager == true && identities[1]?.isEager == true
        let place = turned(side)
        let isAllowed =
            if place == stream.dialer {
                isEager && heard[side] || stream.synArrived && stream.ackSent
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
        case .syn where place == stream.dialer: stream.synArrived = true
        case .ack where place != stream.dialer: stream.ackArrived = true
        case .rewind:
            stream.inFlight[place] -= Int(op.number ?? 0)
            if stream.inFlight[place] < 0 { breaks(1 - side, "REWIND of more than was sent: \(op)") }
        case .windowSize: stream.window[place] = Int(op.number ?? 0)
        default: return
        }
        book.streams[key] = stream
    }

    private func turned(_ side: Int) -> Int { isTurned ? 1 - side : side }

    private func key(_ op: WireOp, _ side: Int) -> StreamBook.Key {
        var destination = op.destination
        if destination.host.rawValue == 0, let peer = identities[1 - side]?.host { destination.host = peer }
        return turned(side) == 0
            ? StreamBook.Key(near: op.source, far: destination) : StreamBook.Key(near: destination, far: op.source)
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
