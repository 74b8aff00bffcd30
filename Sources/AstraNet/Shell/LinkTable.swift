/// The links of a node and the hosts at their other ends.
package struct LinkTable {
    package typealias LinkID = ServiceRegistry.LinkID

    /// Links that have completed the handshake.
    package var up: [LinkID: Link] = [:]
    /// Links that have not completed the handshake.
    var handshaking: [LinkID: Link] = [:]
    package var peers: PeerTable
    /// The forwarding relation: for each link, the links that ops were forwarded to or from.
    var forwardingPeers: [LinkID: Set<LinkID>] = [:]
    /// Links whose peer is silent (``Link/isSilent``). Dials prefer others.
    package var silent: Set<LinkID> = []
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
