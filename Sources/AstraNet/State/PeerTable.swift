/// Which links lead to which hosts, and which of two links to the same host goes.
///
/// Two nodes need one link. Where there are two all the same, because each dialled the other or two addresses lead to one
/// host, a node gives up only what it dialled itself, so that never both go: of two that one host dialled the newer one, and of
/// two that each dialled the one that the smaller host did. Time does not come into it: each end sees another one pass. Each end
/// also knows what the other will give up, so that both use the one that stays: what a router sends to a host must come over the
/// link that the host uses.
struct PeerTable: Sendable {
    typealias LinkID = ServiceRegistry.LinkID

    private struct Entry {
        let link: LinkID
        /// By this node.
        let isDialled: Bool
        var isRetired = false
    }

    private let localHost: HostID
    private var entries: [HostID: [Entry]] = [:]
    private var hosts: [LinkID: HostID] = [:]

    init(localHost: HostID) {
        self.localHost = localHost
    }

    /// How many links are up.
    var count: Int { hosts.count }

    enum LinkUpResult: Hashable {
        /// The only link to its host.
        case first
        /// One of several, and all stay: the other end may give up one.
        case another
        /// One of several, of which this one, dialled by this node, should take no new streams and close when it has none.
        case retire(LinkID)
    }

    /// The handshake of `link` is done.
    ///
    /// - Parameter isDialled: whether this node dialled it.
    mutating func linkUp(_ link: LinkID, to host: HostID, isDialled: Bool) -> LinkUpResult {
        hosts[link] = host
        let kept = entries[host]?.first { !$0.isRetired }
        entries[host, default: []].append(Entry(link: link, isDialled: isDialled))
        settle(host)
        guard let kept else { return .first }
        let isKept = entries[host]?.last?.isRetired == false
        let loser = isKept ? (kept.link, kept.isDialled) : (link, isDialled)
        return loser.1 ? .retire(loser.0) : .another
    }

    /// Decides anew which of the links to `host` stays, in the order in which they came up, as if those that have gone since
    /// had never been: the other end may have seen them go earlier or later, and comes to the same.
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

    /// The link is gone.
    ///
    /// - Returns: the host it led to, whether it was the last one there, whether it was the one to use, and the retired link
    ///   that stays in its place; `nil` where it never came up.
    mutating func linkDown(_ link: LinkID) -> (host: HostID, isLast: Bool, wasInUse: Bool, reinstated: LinkID?)? {
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

    /// The host at the other end of `link`.
    func host(of link: LinkID) -> HostID? { hosts[link] }

    /// All links to `host`.
    func links(to host: HostID) -> [LinkID] { (entries[host] ?? []).map(\.link) }

    /// Whether there is a link to `host`.
    func isLinked(to host: HostID) -> Bool { entries[host] != nil }

    /// The link to use for `host`, `nil` where there is none.
    func link(to host: HostID) -> LinkID? {
        guard let all = entries[host] else { return nil }
        return (all.first { !$0.isRetired } ?? all.first)?.link
    }

    /// The links with the hosts they lead to.
    var links: [(link: LinkID, host: HostID)] { hosts.map { ($0.key, $0.value) } }

    /// The link to forward over to `host`: where several lead there, one of `used`, over which that host speaks to the one it is
    /// to hear from. The other end knows a stream on the link it dialled it over, and on no other.
    func link(to host: HostID, preferring used: Set<LinkID>) -> LinkID? {
        guard let all = entries[host] else { return nil }
        return all.first { used.contains($0.link) }?.link ?? link(to: host)
    }

    /// The links that lead elsewhere than to `host`. All of them, where several lead to one host: each has been told what there
    /// was when it came up, the one that lasts must hear what became of it, and nobody knows which one that is.
    func links(except host: HostID) -> [LinkID] {
        hosts.compactMap { $0.value == host ? nil : $0.key }
    }
}
