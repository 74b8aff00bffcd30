/// The links of a node, and the hosts that they lead to.
struct LinkTable {
    typealias LinkID = ServiceRegistry.LinkID

    /// Links whose handshake is done.
    var up: [LinkID: Link] = [:]
    /// Links whose handshake is not done.
    var handshaking: [LinkID: Link] = [:]
    var peers: PeerTable
    /// For each link that ops were forwarded to or from: the links at the other end.
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
