import AstraNet
import Testing

@Suite struct PeerTableTests {
    private static let small = HostID(rawValue: 1)
    private static let large = HostID(rawValue: 2)

    /// One of two links between the host with the smaller id and the host with the larger id.
    private struct Dial: Hashable, Sendable {
        var link: UInt64
        var byLarge: Bool
    }

    /// One of the two hosts, with the links that it retired.
    private struct End {
        var table: PeerTable
        let isLarge: Bool
        var peer: HostID { isLarge ? PeerTableTests.small : PeerTableTests.large }
        var retired: [UInt64] = []

        init(isLarge: Bool) {
            self.isLarge = isLarge
            table = PeerTable(localHost: isLarge ? PeerTableTests.large : PeerTableTests.small)
        }

        mutating func up(_ dial: Dial) {
            let result = table.linkUp(dial.link, to: peer, isDialled: dial.byLarge == isLarge)
            if case .retire(let link) = result { retired.append(link) }
        }
    }

    @Test func `the first link to a host is used`() {
        var table = PeerTable(localHost: Self.small)
        #expect(!table.isLinked(to: Self.large))
        #expect(table.link(to: Self.large) == nil)
        #expect(table.linkUp(7, to: Self.large, isDialled: true) == .first)
        #expect(table.link(to: Self.large) == 7)
        #expect(table.host(of: 7) == Self.large)
        #expect(table.count == 1)
        let down = table.linkDown(7)
        #expect(down?.host == Self.large)
        #expect(down?.isLast == true)
        #expect(down?.wasInUse == true)
        #expect(!table.isLinked(to: Self.large))
        #expect(table.linkDown(7) == nil)
    }

    /// Checks each combination of dialers, and both orders in which the ends may see the links come up.
    @Test(arguments: [(true, true), (true, false), (false, true), (false, false)], [false, true])
    func `of two links exactly one is retired, and both ends use the other one`(byLarge: (Bool, Bool), isCrossed: Bool)
    {
        let first = Dial(link: 1, byLarge: byLarge.0)
        let second = Dial(link: 2, byLarge: byLarge.1)
        // If one host dialled both links, both ends see them in the same order.
        if isCrossed, first.byLarge == second.byLarge { return }
        var ends = [End(isLarge: false), End(isLarge: true)]
        for index in ends.indices {
            let order = isCrossed && index == 1 ? [second, first] : [first, second]
            ends[index].up(order[0])
            ends[index].up(order[1])
        }
        let retired = ends.flatMap(\.retired)
        #expect(retired.count == 1)
        let kept = retired == [1] ? 2 as UInt64 : 1
        for end in ends {
            #expect(end.table.link(to: end.peer) == kept)
            // A node retires only links that it dialled.
            for link in end.retired {
                #expect((link == 1 ? first : second).byLarge == end.isLarge)
            }
        }
    }

    @Test func `the second link is used when the first one ends`() {
        var table = PeerTable(localHost: Self.small)
        _ = table.linkUp(1, to: Self.large, isDialled: true)
        #expect(table.linkUp(2, to: Self.large, isDialled: true) == .retire(2))
        let down = table.linkDown(1)
        #expect(down?.isLast == false)
        #expect(down?.wasInUse == true)
        #expect(down?.reinstated == 2)
        #expect(table.link(to: Self.large) == 2)
        // A third link is a duplicate again.
        #expect(table.linkUp(3, to: Self.large, isDialled: true) == .retire(3))
        #expect(table.link(to: Self.large) == 2)
    }

    /// The link of the host with the larger id breaks and is dialled again. The other host sees the new link before it
    /// sees that the old one is lost.
    @Test func `an end that detects a lost link late uses the same link as its peer`() {
        var (small, large) = (End(isLarge: false), End(isLarge: true))
        for index in [1, 2] as [UInt64] {
            // The first one is the small host's own.
            small.up(Dial(link: index, byLarge: index == 2))
            large.up(Dial(link: index, byLarge: index == 2))
        }
        #expect(large.table.linkDown(2)?.reinstated == 1)
        large.up(Dial(link: 3, byLarge: true))
        small.up(Dial(link: 3, byLarge: true))
        #expect(small.table.linkDown(2)?.reinstated == 3)
        for end in [small, large] { #expect(end.table.link(to: end.peer) == 3) }
        // The host with the smaller id dials once more: both ends know that this link is a duplicate.
        small.up(Dial(link: 4, byLarge: false))
        large.up(Dial(link: 4, byLarge: false))
        #expect(small.retired == [1, 4] && large.retired == [])
        for end in [small, large] { #expect(end.table.link(to: end.peer) == 3) }
    }

    @Test func `the end of a retired link changes nothing`() {
        var table = PeerTable(localHost: Self.small)
        _ = table.linkUp(1, to: Self.large, isDialled: true)
        _ = table.linkUp(2, to: Self.large, isDialled: true)
        let down = table.linkDown(2)
        #expect(down?.isLast == false)
        #expect(down?.wasInUse == false)
        #expect(table.link(to: Self.large) == 1)
    }

    @Test func `the first link of a peer that joins repeatedly stays in use`() {
        // A Go node may keep all of its links.
        var table = PeerTable(localHost: Self.small)
        for link: UInt64 in 1...5 {
            let result = table.linkUp(link, to: Self.large, isDialled: false)
            #expect(result == (link == 1 ? .first : .another))
            #expect(table.link(to: Self.large) == 1)
        }
        #expect(table.count == 5)
    }
}
