import Testing

@testable import AstraNet

@Suite struct OwnAddressesTests {
    @Test func whatIsListenedOnIsNamedAsItIs() {
        var own = OwnAddresses()
        own.listens(at: "127.0.0.1", port: 5)
        own.listens(at: "::1", port: 6)
        own.listens(at: "127.0.0.1", port: 5)
        own.seen(at: "10.0.0.9", by: 1)
        #expect(own.all == ["127.0.0.1:5", "[::1]:6"])
    }

    @Test func whoListensEverywhereIsWherePeersSeeIt() {
        var own = OwnAddresses()
        #expect(own.all == [])
        own.seen(at: "10.0.0.9", by: 1)
        own.seen(at: "fd00::1", by: 2)
        own.seen(at: "", by: 3)
        own.seen(at: "10.0.0.9", by: 4)
        #expect(own.all == [])
        own.listens(at: "0.0.0.0", port: 5)
        #expect(own.all == ["10.0.0.9:5", "[fd00::1]:5"])
        own.listens(at: "::", port: 5)
        #expect(own.all == ["10.0.0.9:5", "[fd00::1]:5"])
    }

    @Test func whatWasLearntOverALinkGoesWithItUnlessAnotherSaysTheSame() {
        var own = OwnAddresses()
        own.listens(at: "0.0.0.0", port: 5)
        own.seen(at: "10.0.0.1", by: 1)
        own.seen(at: "10.0.0.2", by: 3)
        own.seen(at: "10.0.0.1", by: 2)
        own.forget(1)
        own.forget(3)
        #expect(own.all == ["10.0.0.1:5"])
        own.forget(2)
        #expect(own.all == [])
    }

    @Test func ofMoreThanSixteenAddressesThoseCountThatMostPeersAgreeOn() {
        var own = OwnAddresses()
        own.listens(at: "0.0.0.0", port: 5)
        // Whoever makes addresses up, each over a link of its own, keeps out none that others see.
        for index: UInt64 in 1...20 { own.seen(at: "10.6.6.\(index)", by: index) }
        #expect(own.all == (1...16).map { "10.6.6.\($0):5" })
        for link: UInt64 in 100...101 { own.seen(at: "10.0.1.1", by: link) }
        #expect(own.all == ["10.0.1.1:5"] + (1...15).map { "10.6.6.\($0):5" })
        // A peer says it of one address, and the last counts.
        own.seen(at: "10.6.6.1", by: 100)
        #expect(own.all.first == "10.6.6.1:5" && !own.all.contains("10.0.1.1:5"))
        for link: UInt64 in 1...20 { own.forget(link) }
        #expect(own.all == ["10.6.6.1:5", "10.0.1.1:5"])
    }
}
