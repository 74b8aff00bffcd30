import AstraNet
import DequeModule
import NIOCore

/// A Go-like node's end of a connection: handshake, keep-alive, two queues of ops, and a check of the size of received
/// ops.
final class GoLikeLink: Endpoint {
    let connection: Connection
    let side: Int
    let node: GoLikeNode
    private(set) var peer: HostID?
    private(set) var isOpen = true
    /// The offers received on the link, in order.
    var offers: [GoLikeNode.Offer] = []
    private var decoder = WireDecoder()
    private var announcements: [WireOp] = []
    private var isAnnouncing = false
    private var lastReceived: UInt64
    private var lastWritten: UInt64
    private var fullSince: UInt64?
    /// Go's two queues. Control ops leave before data ops (`docs/protocol.md` §1).
    private var controlOps: Deque<WireOp> = []
    private var dataOps: Deque<WireOp> = []
    private var isWriting = false
    private var random: SeededRandom
    private let startedAt: UInt64

    init(_ connection: Connection, side: Int, node: GoLikeNode) {
        self.connection = connection
        self.side = side
        self.node = node
        startedAt = connection.world.now
        random = SeededRandom(connection.world.seed, 21, UInt64(connection.id), UInt64(side))
        lastReceived = startedAt
        lastWritten = startedAt
        connection.attach(self, side: side)
    }

    func start() {
        let ip = Internet.ip(of: connection.hosts[1 - side])
        send(WireOp(.handshake, to: .linkPeer, from: node.address(0), text: "{\"RAddr\":\"\(ip):\(Internet.port)\"}"))
        tick()
    }

    func send(_ op: WireOp) {
        guard isOpen else { return }
        if Self.isControl(op.command) { controlOps.append(op) } else { dataOps.append(op) }
        guard !isWriting else { return }
        isWriting = true
        // The writing goroutine runs after a random delay; without jitter, at once.
        let delay = connection.hasJitter ? random.next() % World.millisecond : 0
        connection.world.after(delay) { [self] in write() }
    }

    private static func isControl(_ command: Command) -> Bool {
        switch command {
        case .dial, .syn, .ack, .synAck, .rewind, .handshake, .rst: true
        default: false
        }
    }

    private func write() {
        isWriting = false
        while isOpen, fullSince == nil, let op = controlOps.popFirst() ?? dataOps.popFirst() {
            lastWritten = connection.world.now
            var bytes = ByteBuffer()
            op.write(to: &bytes)
            connection.write(bytes, from: side)
        }
    }

    /// Sends a SERVICE or NO_SERVICE. They leave every 50 ms.
    func announce(_ op: WireOp) {
        announcements.append(op)
        guard !isAnnouncing else { return }
        isAnnouncing = true
        connection.world.after(50 * World.millisecond) { [self] in
            isAnnouncing = false
            let ops = announcements
            announcements = []
            for op in ops { send(op) }
        }
    }

    private func tick() {
        connection.world.after(World.second) { [self] in
            guard isOpen else { return }
            let now = connection.world.now
            if peer == nil, now - startedAt >= 10 * World.second { return close() }
            if now - lastReceived >= 100 * World.second { return close() }
            if let since = fullSince, now - since >= 10 * World.second { return close() }
            if now - lastWritten >= 5 * World.second {
                send(WireOp(.ping, to: .linkPeer, from: node.address(0)))
            }
            tick()
        }
    }

    func close() {
        guard isOpen else { return }
        connection.closed(by: side)
        disconnected()
    }

    // MARK: - From the connection

    func received(_ bytes: ByteBuffer) {
        lastReceived = connection.world.now
        decoder.append(bytes)
        while isOpen, let op = decoder.next() {
            if op.payload.readableBytes > 65_536 {
                connection.world.broken("n\(connection.hosts[side]), Go-like: \(op) is larger than 64 KiB")
            }
            if peer == nil {
                guard op.command == .handshake else { continue }
                peer = op.source.host
                node.linkUp(self)
            } else {
                node.take(op, from: self)
            }
        }
    }

    func writabilityChanged(_ isWritable: Bool) {
        fullSince = isWritable ? nil : connection.world.now
        if isWritable { write() }
    }

    func disconnected() {
        guard isOpen else { return }
        isOpen = false
        node.linkDown(self)
    }
}

extension Address {
    /// Destination 0: the peer of the link.
    static let linkPeer = Address(host: HostID(rawValue: 0), port: 0)
}
