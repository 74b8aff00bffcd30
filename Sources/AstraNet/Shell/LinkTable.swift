/// The links of a node and the hosts that they lead to.
struct LinkTable {
    typealias LinkID = ServiceRegistry.LinkID

    /// The links whose handshake is complete.
    var up: [LinkID: Link] = [:]
    /// The links whose handshake is not complete.
    var handshaking: [LinkID: Link] = [:]
    var peers: PeerTable
    /// For each link that this router has forwarded ops from or to: the links at the other side of the forwarding.
    var talkers: [LinkID: Set<LinkID>] = [:]
    private var lastID: LinkID = 0

    init(peers: PeerTable) {
        self.peers = peers
    }

    var count: Int { up.count + handshaking.count }

    var all: [Link] { Array(up.values) + Array(handshaking.values) }

    mutating func takeID() -> LinkID {
        lastID += 1
        return lastID
    }
}
