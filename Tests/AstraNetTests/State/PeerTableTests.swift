import Testing

@testable import AstraNet

@Suite struct PeerTableTests {
    private static let small = HostID(rawValue: 1)
    private static let large = HostID(rawValue: 2)

    /// One of two links between the small and the large host, as both see it.
    private struct Dial: Hashable, Sendable {
        var link: UInt64
        var byLarge: Bool
    }

    /// What each end keeps, gives up and uses after both links are up.
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

    @Test func theFirstLinkToAHostIsTheOneToUse() {
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

    /// Whoever dialled, in whatever order each end sees them come up: one of the two goes, never both, and both ends use the one
    /// that stays.
    @Test(arguments: [(true, true), (true, false), (false, true), (false, false)], [false, true])
    func ofTwoLinksBothEndsUseTheSameAndExactlyOneGoes(byLarge: (Bool, Bool), isCrossed: Bool) {
        let first = Dial(link: 1, byLarge: byLarge.0)
        let second = Dial(link: 2, byLarge: byLarge.1)
        // A host that dials twice does so in an order that it knows.
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
            // A node gives up only what it dialled.
            for link in end.retired {
                #expect((link == 1 ? first : second).byLarge == end.isLarge)
            }
        }
    }

    @Test func theSecondLinkTakesOverWhenTheFirstGoes() {
        var table = PeerTable(localHost: Self.small)
        _ = table.linkUp(1, to: Self.large, isDialled: true)
        #expect(table.linkUp(2, to: Self.large, isDialled: true) == .retire(2))
        let down = table.linkDown(1)
        #expect(down?.isLast == false)
        #expect(down?.wasInUse == true)
        #expect(down?.reinstated == 2)
        #expect(table.link(to: Self.large) == 2)
        // And the next one is one too many again.
        #expect(table.linkUp(3, to: Self.large, isDialled: true) == .retire(3))
        #expect(table.link(to: Self.large) == 2)
    }

    /// The large host's link is cut and dialled again, and the small host hears of the new link before it hears that the old one
    /// is gone.
    @Test func anEndThatLearnsLateThatALinkIsGoneComesToTheSame() {
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
        // Where the small host dials once more, each knows that this is one too many.
        small.up(Dial(link: 4, byLarge: false))
        large.up(Dial(link: 4, byLarge: false))
        #expect(small.retired == [1, 4] && large.retired == [])
        for end in [small, large] { #expect(end.table.link(to: end.peer) == 3) }
    }

    @Test func aRetiredLinkThatGoesChangesNothing() {
        var table = PeerTable(localHost: Self.small)
        _ = table.linkUp(1, to: Self.large, isDialled: true)
        _ = table.linkUp(2, to: Self.large, isDialled: true)
        let down = table.linkDown(2)
        #expect(down?.isLast == false)
        #expect(down?.wasInUse == false)
        #expect(table.link(to: Self.large) == 1)
    }

    @Test func aPeerThatJoinsAgainAndAgainKeepsItsFirstLink() {
        // A Go node may give up none of them.
        var table = PeerTable(localHost: Self.small)
        for link: UInt64 in 1...5 {
            let result = table.linkUp(link, to: Self.large, isDialled: false)
            #expect(result == (link == 1 ? .first : .another))
            #expect(table.link(to: Self.large) == 1)
        }
        #expect(table.count == 5)
    }
}
