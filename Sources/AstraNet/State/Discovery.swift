/// Which hosts behind a router to ask for their addresses (DISCOVER), and whose answers (FOLLOW) to believe
/// (`docs/protocol.md` §3).
struct Discovery: Sendable {
    /// A host that is still out of direct reach is asked again after this many nanoseconds.
    private static let interval: UInt64 = 60_000_000_000
    /// Hosts that are asked; beyond it the newest has to be reached through its router. So it has where its router has spoken of
    /// more than are left for others: one that makes hosts up keeps nobody else's out.
    private static let limit = 65_536

    private struct Asked: Sendable {
        var at: UInt64
        /// Who spoke of the host first.
        let router: ServiceRegistry.LinkID
    }

    private var asked: [HostID: Asked] = [:]
    private var counts: [ServiceRegistry.LinkID: Int] = [:]

    /// A relayed SERVICE of `host`, to which there is no link, was heard over `router`.
    ///
    /// - Returns: whether to send DISCOVER now.
    mutating func heard(of host: HostID, over router: ServiceRegistry.LinkID, now: UInt64) -> Bool {
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
    func hasAsked(_ host: HostID) -> Bool { asked[host] != nil }

    /// No router speaks of `host` any more, or there is a link to it.
    mutating func forget(_ host: HostID) {
        guard let router = asked.removeValue(forKey: host)?.router, let count = counts[router] else { return }
        counts[router] = count > 1 ? count - 1 : nil
    }

    /// The hosts to ask again now, at most `count` of them.
    mutating func due(now: UInt64, atMost count: Int) -> [HostID] {
        var due: [HostID] = []
        for (host, known) in asked where now >= known.at + Self.interval {
            due.append(host)
            if due.count == count { break }
        }
        for host in due { asked[host]?.at = now }
        return due
    }
}
