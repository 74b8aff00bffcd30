/// The addresses at which peers can reach this node: where it listens, and the IP addresses at which peers see it.
package struct OwnAddresses: Sendable {
    /// The maximum number of seen IP addresses that are announced. Those that most links agree on win, because a peer
    /// may send anything.
    private static let limit = 16

    private struct Seen: Sendable {
        /// The number of links whose peers see this address.
        var links = 0
        /// The order of the first appearance. Among addresses with the same number of links, the oldest wins.
        let order: UInt64
    }

    /// The IP address at which the peer of each link sees this node.
    private var byLink: [ServiceRegistry.LinkID: String] = [:]
    private var seen: [String: Seen] = [:]
    private var lastOrder: UInt64 = 0
    private var listening: [(ip: String, port: Int, isSecure: Bool)] = []

    package init() {}

    /// Records that the peer of `link` sees this node at `ip`.
    package mutating func seen(at ip: String, by link: ServiceRegistry.LinkID) {
        guard !ip.isEmpty, byLink[link] != ip else { return }
        forget(link)
        byLink[link] = ip
        lastOrder += 1
        seen[ip, default: Seen(order: lastOrder)].links += 1
    }

    /// Forgets a lost link, and the address that only its peer saw.
    package mutating func forget(_ link: ServiceRegistry.LinkID) {
        guard let ip = byLink.removeValue(forKey: link) else { return }
        seen[ip]?.links -= 1
        if seen[ip]?.links == 0 { seen[ip] = nil }
    }

    /// Records that this node accepts links at `ip` and `port`.
    ///
    /// - Parameter isSecure: whether links there need TLS.
    package mutating func listens(at ip: String, port: Int, isSecure: Bool = false) {
        listening.append((ip, port, isSecure))
    }

    /// Returns the addresses to announce as `ip:port`, or `tls:ip:port` where links need TLS. For a listener on all
    /// interfaces, these are the IP addresses that most peers see.
    ///
    /// - Parameter isSecure: whether the addresses that need TLS are returned, or the others.
    package func all(isSecure: Bool = false) -> [String] {
        let agreed = seen.sorted { ($1.value.links, $0.value.order) < ($0.value.links, $1.value.order) }
            .prefix(Self.limit).map(\.key)
        var addresses: [String] = []
        for (ip, port, needsTLS) in listening where needsTLS == isSecure {
            let isWildcard = ip == "0.0.0.0" || ip == "::"
            for host in isWildcard ? agreed : [ip] {
                let address = (isSecure ? SecureAddress.prefix : "") + HostPort(host: host, port: port).description
                if !addresses.contains(address) { addresses.append(address) }
            }
        }
        return addresses
    }
}
