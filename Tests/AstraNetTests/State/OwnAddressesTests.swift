import AstraNet
import Testing

@Suite struct OwnAddressesTests {
    @Test func `a specific listening address is announced as it is`() {
        var own = OwnAddresses()
        own.listens(at: "127.0.0.1", port: 5)
        own.listens(at: "::1", port: 6)
        own.listens(at: "127.0.0.1", port: 5)
        own.seen(at: "10.0.0.9", by: 1)
        #expect(own.all() == ["127.0.0.1:5", "[::1]:6"])
    }

    @Test func `a node that listens on a wildcard address announces the addresses that peers see`() {
        var own = OwnAddresses()
        #expect(own.all() == [])
        own.seen(at: "10.0.0.9", by: 1)
        own.seen(at: "fd00::1", by: 2)
        own.seen(at: "", by: 3)
        own.seen(at: "10.0.0.9", by: 4)
        #expect(own.all() == [])
        own.listens(at: "0.0.0.0", port: 5)
        #expect(own.all() == ["10.0.0.9:5", "[fd00::1]:5"])
        own.listens(at: "::", port: 5)
        #expect(own.all() == ["10.0.0.9:5", "[fd00::1]:5"])
    }

    @Test func `an address learned on a link ends with it unless another link reports the same`() {
        var own = OwnAddresses()
        own.listens(at: "0.0.0.0", port: 5)
        own.seen(at: "10.0.0.1", by: 1)
        own.seen(at: "10.0.0.2", by: 3)
        own.seen(at: "10.0.0.1", by: 2)
        own.forget(1)
        own.forget(3)
        #expect(own.all() == ["10.0.0.1:5"])
        own.forget(2)
        #expect(own.all() == [])
    }

    @Test func `of more than 16 addresses those reported by most peers are announced`() {
        var own = OwnAddresses()
        own.listens(at: "0.0.0.0", port: 5)
        // Invented addresses, each reported by one link, do not displace an address that several links report.
        for index: UInt64 in 1...20 { own.seen(at: "10.6.6.\(index)", by: index) }
        #expect(own.all() == (1...16).map { "10.6.6.\($0):5" })
        for link: UInt64 in 100...101 { own.seen(at: "10.0.1.1", by: link) }
        #expect(own.all() == ["10.0.1.1:5"] + (1...15).map { "10.6.6.\($0):5" })
        // Each link reports one address. The latest report counts.
        own.seen(at: "10.6.6.1", by: 100)
        #expect(own.all().first == "10.6.6.1:5" && !own.all().contains("10.0.1.1:5"))
        for link: UInt64 in 1...20 { own.forget(link) }
        #expect(own.all() == ["10.6.6.1:5", "10.0.1.1:5"])
    }
}
