/// Where this node can be reached, as far as it knows: what peers said they see it at, and where it listens.
struct OwnAddresses: Sendable {
    /// So many IP addresses are told to others: those that most links agree on, for peers may say what they like.
    private static let limit = 16

    private struct Seen: Sendable {
        /// Over how many links it was learnt.
        var links = 0
        /// When it was learnt first: among those that as many agree on, the oldest.
        let place: UInt64
    }

    /// The IP address that the peer of each link sees this node at: one for each link.
    private var byLink: [ServiceRegistry.LinkID: String] = [:]
    private var seen: [String: Seen] = [:]
    private var lastPlace: UInt64 = 0
    private var listening: [(ip: String, port: Int)] = []

    /// The peer at the other end of `link` sees this node at `ip`.
    mutating func seen(at ip: String, by link: ServiceRegistry.LinkID) {
        guard !ip.isEmpty, byLink[link] != ip else { return }
        forget(link)
        byLink[link] = ip
        lastPlace += 1
        seen[ip, default: Seen(place: lastPlace)].links += 1
    }

    /// `link` is gone, and what was learnt over it alone.
    mutating func forget(_ link: ServiceRegistry.LinkID) {
        guard let ip = byLink.removeValue(forKey: link) else { return }
        seen[ip]?.links -= 1
        if seen[ip]?.links == 0 { seen[ip] = nil }
    }

    /// This node accepts links at `ip` and `port`.
    mutating func listens(at ip: String, port: Int) {
        listening.append((ip, port))
    }

    /// `ip:port` of each address to be followed to: what is listened on, and where that is every address, those that most peers
    /// see.
    var all: [String] {
        let agreed = seen.sorted { ($1.value.links, $0.value.place) < ($0.value.links, $1.value.place) }
            .prefix(Self.limit).map(\.key)
        var addresses: [String] = []
        for (ip, port) in listening {
            let isWildcard = ip == "0.0.0.0" || ip == "::"
            for host in isWildcard ? agreed : [ip] {
                let address = host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
                if !addresses.contains(address) { addresses.append(address) }
            }
        }
        return addresses
    }
}
