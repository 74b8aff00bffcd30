import AstraNet
import NIOCore

/// The adversary's end of a connection.
final class AdversaryLink: Endpoint {
    let connection: Connection
    /// The host id that the adversary claims on the link.
    let claimed: HostID
    private let side: Int
    private unowned let adversary: Adversary
    private var decoder = WireDecoder()
    /// The host id of the peer, once its HANDSHAKE has arrived.
    private(set) var peer: HostID?
    private(set) var isOpen = true

    /// The number of the host at the other end.
    var target: Int { connection.hosts[1 - side] }
    var isUp: Bool { isOpen && peer != nil }

    /// - Parameter hasAbilities: whether the adversary claims to be a node of this library.
    init(
        _ connection: Connection, side: Int, claims id: HostID, hasAbilities: Bool, seenAt place: String,
        by adversary: Adversary
    ) {
        self.connection = connection
        self.side = side
        self.adversary = adversary
        claimed = id
        connection.attach(self, side: side)
        let abilities = hasAbilities ? "\"Abilities\":[\"eager\",\"push\",\"refuse\",\"window\"],\"MaxOp\":262144," : ""
        send(
            WireOp(
                .handshake, to: .linkPeer, from: Address(host: id, port: 0),
                text: "{\(abilities)\"RAddr\":\"\(place)\"}"))
        tick()
    }

    func send(_ op: WireOp) {
        guard isOpen else { return }
        adversary.sends(op)
        var bytes = ByteBuffer()
        op.write(to: &bytes)
        connection.write(bytes, from: side)
    }

    private func tick() {
        connection.world.after(4 * World.second) { [weak self] in
            guard let self, isOpen else { return }
            send(WireOp(.ping, to: .linkPeer, from: Address(host: claimed, port: 0)))
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
        decoder.append(bytes)
        while isOpen, let op = decoder.next() {
            switch op.command {
            case .handshake:
                if peer == nil { peer = op.source.host }
                adversary.hears(of: op.source.host)
            case .ping: send(WireOp(.pong, to: op.source, from: op.destination))
            default: adversary.take(op, from: self)
            }
        }
    }

    func writabilityChanged(_ isWritable: Bool) {}

    func disconnected() {
        isOpen = false
        adversary.linkDown(self)
    }
}
