/// A link of a node, for operators.
package struct NodeLink: Sendable, Hashable {
    /// The host id of the peer.
    package var peer: HostID
    /// The name of the peer for people; `nil` if it has none.
    package var name: String?
    /// The `ip:port` of the peer; empty if the link is not a socket with an address.
    package var address: String
    /// The verified name of the peer (``PeerCredentials/name``); empty if it has proved nothing.
    package var identity: String
    /// Whether this node dialled the link.
    package var isDialled: Bool
    /// The time since the connection began.
    package var age: Duration
    /// The number of streams.
    package var streams: Int
    /// The number of bytes that the peer makes this node buffer.
    package var bufferedBytes: Int
    /// The shortest measured round trip; `nil` before the first measurement.
    package var roundTrip: Duration?
}

extension Node {
    /// All links whose handshake is complete, the oldest first.
    package var linkList: [NodeLink] {
        core.directory.links.sorted { $0.id < $1.id }.compactMap { link in
            guard let peer = link.peer else { return nil }
            let roundTrip = link.roundTrip.load(ordering: .relaxed)
            let now = link.eventLoop.now.uptimeNanoseconds
            return NodeLink(
                peer: peer.host, name: link.peerName.withLockedValue { $0 },
                address: link.peerSocketAddress.withLockedValue { $0 }, identity: link.identity.name,
                isDialled: link.isDialled,
                age: .nanoseconds(Int64(clamping: now > link.began ? now - link.began : 0)),
                streams: link.reservedStreamSlots, bufferedBytes: link.buffered.held,
                roundTrip: roundTrip == 0 ? nil : .nanoseconds(Int64(clamping: roundTrip)))
        }
    }
}
