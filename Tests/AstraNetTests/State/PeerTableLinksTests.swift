import AstraNet
import Testing

/// The use of several links to one host. The simulation found these cases.
@Suite("Several links to one host")
struct PeerTableLinksTests {
    private let local = HostID(rawValue: 5)
    private let peer = HostID(rawValue: 9)
    private let other = HostID(rawValue: 7)

    private func table() -> PeerTable {
        var table = PeerTable(localHost: local)
        _ = table.linkUp(1, to: peer, isDialled: false)
        _ = table.linkUp(2, to: peer, isDialled: false)
        _ = table.linkUp(3, to: other, isDialled: false)
        return table
    }

    @Test func `ops are forwarded over the preferred link, otherwise over the usual one`() {
        let table = table()
        #expect(table.link(to: peer, preferring: [2, 3]) == 2)
        #expect(table.link(to: peer, preferring: [3]) == table.link(to: peer))
        #expect(table.link(to: HostID(rawValue: 1), preferring: [1]) == nil)
    }

    @Test func `changes are announced on all links to a host`() {
        let table = table()
        #expect(Set(table.links(except: other)) == [1, 2])
        #expect(Set(table.links(except: peer)) == [3])
    }
}
