/// The links of a host as sent over the control socket.
package struct LinksReport: Codable, Sendable, Hashable {
    /// Maximum links in one report; the oldest ones are listed.
    package static let longest = 10_000

    /// The listed links, oldest first.
    package var links: [HostLink]
    /// Number of links, including those beyond ``longest``.
    package var total: Int

    package init(links: [HostLink], total: Int) {
        self.links = links
        self.total = total
    }

    init(_ links: [HostLink]) {
        self.init(links: Array(links.prefix(Self.longest)), total: links.count)
    }
}
