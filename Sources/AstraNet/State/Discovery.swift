/// Which hosts behind a router to ask for their addresses (DISCOVER), and whose answers (FOLLOW) to believe
/// (protocol section 3).
struct Discovery: Sendable {
    /// A host that is still out of direct reach is asked again after this many nanoseconds.
    private static let interval: UInt64 = 60_000_000_000
    /// Hosts that are asked; beyond it the newest has to be reached through its router.
    private static let limit = 65_536

    private var askedAt: [HostID: UInt64] = [:]

    /// A relayed SERVICE of `host` was heard, to which there is no link.
    ///
    /// - Returns: whether to send DISCOVER now.
    mutating func heard(of host: HostID, now: UInt64) -> Bool {
        if let asked = askedAt[host] {
            guard now - asked >= Self.interval else { return false }
        } else if askedAt.count >= Self.limit {
            return false
        }
        askedAt[host] = now
        return true
    }

    /// Whether `host` was asked, so that its FOLLOW is an answer.
    func hasAsked(_ host: HostID) -> Bool { askedAt[host] != nil }

    /// No router speaks of `host` any more, or there is a link to it.
    mutating func forget(_ host: HostID) {
        askedAt[host] = nil
    }

    /// The hosts to ask again now, at most `count` of them.
    mutating func due(now: UInt64, atMost count: Int) -> [HostID] {
        var due: [HostID] = []
        for (host, asked) in askedAt where now - asked >= Self.interval {
            due.append(host)
            if due.count == count { break }
        }
        for host in due { askedAt[host] = now }
        return due
    }
}

/// Where this node can be reached, as far as it knows: what peers said they see it at, and where it listens.
struct OwnAddresses: Sendable {
    /// So many hosts are believed: peers may say what they like.
    private static let limit = 16

    /// IP addresses that peers see this node at, in the order in which they were learnt, and over which links.
    private var seen: [(ip: String, by: Set<ServiceRegistry.LinkID>)] = []
    private var listening: [(ip: String, port: Int)] = []

    /// The peer at the other end of `link` sees this node at `ip`.
    mutating func seen(at ip: String, by link: ServiceRegistry.LinkID) {
        if let known = seen.firstIndex(where: { $0.ip == ip }) {
            seen[known].by.insert(link)
        } else if !ip.isEmpty, seen.count < Self.limit {
            seen.append((ip, [link]))
        }
    }

    /// `link` is gone, and what was learnt over it alone.
    mutating func forget(_ link: ServiceRegistry.LinkID) {
        for index in seen.indices { seen[index].by.remove(link) }
        seen.removeAll { $0.by.isEmpty }
    }

    /// This node accepts links at `ip` and `port`.
    mutating func listens(at ip: String, port: Int) {
        listening.append((ip, port))
    }

    /// `ip:port` of each address to be followed to: what is listened on, and where that is every address, all that peers
    /// see.
    var all: [String] {
        var addresses: [String] = []
        for (ip, port) in listening {
            let isWildcard = ip == "0.0.0.0" || ip == "::"
            for host in isWildcard ? seen.map(\.ip) : [ip] {
                let address = host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
                if !addresses.contains(address) { addresses.append(address) }
            }
        }
        return addresses
    }
}
