/// The hosts of all links, and the decision which of two links to the same host stays (`docs/protocol.md` §3).
///
/// Two nodes need one link. They get two if each dials the other, or if two addresses lead to the same host. A node
/// retires only links that it has dialled itself, so that never both links go:
/// - Of two links that one host dialled, the newer one goes.
/// - Of two links that each host dialled, the one that the host with the smaller id dialled goes.
///
/// The decision does not depend on time, because the two nodes see different times. Each node also knows what the other
/// one retires, so both use the link that stays. This matters for a router: its ops to a host must use the link that
/// the host uses.
package struct PeerTable: Sendable {
    package typealias LinkID = ServiceRegistry.LinkID

    private struct Entry {
        let link: LinkID
        /// Whether this node dialled the link.
        let isDialled: Bool
        var isRetired = false
    }

    private let localHost: HostID
    private var entries: [HostID: [Entry]] = [:]
    private var hosts: [LinkID: HostID] = [:]

    package init(localHost: HostID) {
        self.localHost = localHost
    }

    /// The number of links that are up.
    package var count: Int { hosts.count }

    package enum LinkUpResult: Hashable {
        /// The link is the only one to its host.
        case first
        /// There are several links to the host, and this node retires none. The peer may retire one.
        case another
        /// This node must retire one of several links: the given one, which it has dialled.
        case retire(LinkID)
    }

    /// Adds a link whose handshake is complete.
    ///
    /// - Parameter isDialled: whether this node dialled the link.
    package mutating func linkUp(_ link: LinkID, to host: HostID, isDialled: Bool) -> LinkUpResult {
        hosts[link] = host
        let kept = entries[host]?.first { !$0.isRetired }
        entries[host, default: []].append(Entry(link: link, isDialled: isDialled))
        settle(host)
        guard let kept else { return .first }
        let isKept = entries[host]?.last?.isRetired == false
        let loser = isKept ? (kept.link, kept.isDialled) : (link, isDialled)
        return loser.1 ? .retire(loser.0) : .another
    }

    /// Decides which of the links to `host` stays, in the order in which they came up, and as if lost links had never
    /// existed. The peer may have seen these losses earlier or later, and comes to the same result.
    private mutating func settle(_ host: HostID) {
        guard var links = entries[host] else { return }
        let keepsOwn = localHost.rawValue > host.rawValue
        var kept = links.startIndex
        for index in links.indices {
            links[index].isRetired = false
            guard index != kept else { continue }
            let (older, newer) = (links[kept], links[index])
            let isCrossed = older.isDialled != newer.isDialled
            let loser = isCrossed && newer.isDialled == keepsOwn ? kept : index
            links[loser].isRetired = true
            if loser == kept { kept = index }
        }
        entries[host] = links
    }

    /// Removes a lost link.
    ///
    /// - Returns: its host, whether it was the last link there, whether it was the link to use, and the retired link
    ///   that replaces it; `nil` if the link never came up.
    package mutating func linkDown(_ link: LinkID) -> (host: HostID, isLast: Bool, wasInUse: Bool, reinstated: LinkID?)?
    {
        guard let host = hosts.removeValue(forKey: link) else { return nil }
        let wasInUse = self.link(to: host) == link
        entries[host]?.removeAll { $0.link == link }
        guard entries[host]?.isEmpty == true else {
            let retired = (entries[host] ?? []).filter(\.isRetired).map(\.link)
            settle(host)
            return (host, false, wasInUse, entries[host]?.first { !$0.isRetired && retired.contains($0.link) }?.link)
        }
        entries[host] = nil
        return (host, true, wasInUse, nil)
    }

    /// Returns the host of `link`.
    package func host(of link: LinkID) -> HostID? { hosts[link] }

    /// Returns all links to `host`.
    package func links(to host: HostID) -> [LinkID] { (entries[host] ?? []).map(\.link) }

    /// Whether a link to `host` is up.
    package func isLinked(to host: HostID) -> Bool { entries[host] != nil }

    /// Returns the link to use for `host`; `nil` if there is none.
    package func link(to host: HostID) -> LinkID? {
        guard let all = entries[host] else { return nil }
        return (all.first { !$0.isRetired } ?? all.first)?.link
    }

    /// All links with their hosts.
    var links: [(link: LinkID, host: HostID)] { hosts.map { ($0.key, $0.value) } }

    /// Returns the link over which to forward to `host`. If several links lead there, it prefers one of `used`, over
    /// which that host has talked to the sender. The host knows a stream only on the link on which it dialled the
    /// stream.
    package func link(to host: HostID, preferring used: Set<LinkID>) -> LinkID? {
        guard let all = entries[host] else { return nil }
        return all.first { used.contains($0.link) }?.link ?? link(to: host)
    }

    /// Returns all links to other hosts than `host`, even if several lead to the same host. Each of these links
    /// received the offers when it came up, and it is not known which one stays. So each must receive the changes.
    package func links(except host: HostID) -> [LinkID] {
        hosts.compactMap { $0.value == host ? nil : $0.key }
    }
}
