/// The hosts behind routers that this node asks for their addresses (DISCOVER), and whose answers (FOLLOW) it believes
/// (`docs/protocol.md` §3).
package struct Discovery: Sendable {
    /// The time after which a host without a direct link is asked again: 60 s, in nanoseconds.
    private static let interval: UInt64 = 60_000_000_000
    /// The maximum number of hosts that are asked. Further hosts stay reachable through their router. A router gets no
    /// more while its share is at least the number of free places, so that a router that invents hosts cannot keep
    /// others out.
    private static let limit = 65_536

    private struct Asked: Sendable {
        var at: UInt64
        /// The router that announced the host first.
        let router: ServiceRegistry.LinkID
    }

    private var asked: [HostID: Asked] = [:]
    private var counts: [ServiceRegistry.LinkID: Int] = [:]

    package init() {}

    /// Handles a relayed SERVICE of `host` from `router`. There is no link to the host.
    ///
    /// - Returns: whether to send DISCOVER now.
    package mutating func heard(of host: HostID, over router: ServiceRegistry.LinkID, now: UInt64) -> Bool {
        if let known = asked[host] {
            guard now >= known.at + Self.interval else { return false }
            asked[host]?.at = now
            return true
        }
        guard counts[router] ?? 0 < Self.limit - asked.count else { return false }
        counts[router, default: 0] += 1
        asked[host] = Asked(at: now, router: router)
        return true
    }

    /// Whether `host` was asked, so that its FOLLOW is an answer.
    package func hasAsked(_ host: HostID) -> Bool { asked[host] != nil }

    /// Forgets `host`, because no router offers it any more or a link leads to it.
    package mutating func forget(_ host: HostID) {
        guard let router = asked.removeValue(forKey: host)?.router, let count = counts[router] else { return }
        counts[router] = count > 1 ? count - 1 : nil
    }

    /// Returns the hosts to ask again now, at most `count` of them.
    package mutating func due(now: UInt64, atMost count: Int) -> [HostID] {
        var due: [HostID] = []
        for (host, known) in asked where now >= known.at + Self.interval {
            due.append(host)
            if due.count == count { break }
        }
        for host in due { asked[host]?.at = now }
        return due
    }
}
