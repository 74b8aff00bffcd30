import AstraNet
import Testing

@Suite struct DiscoveryTests {
    private static let second: UInt64 = 1_000_000_000
    private static let host = HostID(rawValue: 7)

    @Test func `a host is asked at most once per minute`() {
        var discovery = Discovery()
        #expect(!discovery.hasAsked(Self.host))
        #expect(discovery.heard(of: Self.host, over: 1, now: 0) == true)
        #expect(discovery.hasAsked(Self.host))
        #expect(discovery.heard(of: Self.host, over: 1, now: 60 * Self.second - 1) == false)
        #expect(discovery.due(now: 60 * Self.second - 1, atMost: 9) == [])
        #expect(discovery.due(now: 60 * Self.second, atMost: 9) == [Self.host])
        #expect(discovery.heard(of: Self.host, over: 1, now: 61 * Self.second) == false)
        #expect(discovery.heard(of: Self.host, over: 1, now: 120 * Self.second) == true)
    }

    @Test func `a forgotten host is not asked again and its answer is not expected`() {
        var discovery = Discovery()
        _ = discovery.heard(of: Self.host, over: 1, now: 0)
        discovery.forget(Self.host)
        #expect(!discovery.hasAsked(Self.host))
        #expect(discovery.due(now: .max, atMost: 9) == [])
        #expect(discovery.heard(of: Self.host, over: 1, now: 1) == true)
    }

    @Test func `the hosts that are due are asked in turn, a limited number at a time`() {
        var discovery = Discovery()
        for host: UInt64 in 1...10 { _ = discovery.heard(of: HostID(rawValue: host), over: 1, now: 0) }
        var asked: [HostID] = []
        for _ in 0..<4 { asked += discovery.due(now: 60 * Self.second, atMost: 3) }
        #expect(asked.count == 10)
        #expect(Set(asked).count == 10)
    }

    @Test func `the number of asked hosts is limited, and one router gets at most half`() {
        var discovery = Discovery()
        for host: UInt64 in 1...65_536 { _ = discovery.heard(of: HostID(rawValue: host), over: 1, now: 0) }
        #expect(discovery.hasAsked(HostID(rawValue: 32_768)) && !discovery.hasAsked(HostID(rawValue: 32_769)))
        let again = discovery.heard(of: HostID(rawValue: 1), over: 1, now: 60 * Self.second)
        #expect(again, "a host below the limit is still asked")
        #expect(discovery.heard(of: HostID(rawValue: 70_000), over: 2, now: 0) == true)
        #expect(discovery.heard(of: HostID(rawValue: 70_001), over: 1, now: 0) == false)
        discovery.forget(HostID(rawValue: 2))
        #expect(discovery.heard(of: HostID(rawValue: 70_001), over: 1, now: 0) == true)
        #expect(discovery.heard(of: HostID(rawValue: 70_002), over: 1, now: 0) == false)
    }
}

@Suite struct OfferPenaltiesTests {
    private static let second: UInt64 = 1_000_000_000
    private static let address = Address(HostID(rawValue: 7), 9)

    @Test func `a failed offer is avoided for 30 s or until it succeeds`() {
        var penalties = OfferPenalties()
        #expect(!penalties.isAvoided(Self.address, now: 0))
        penalties.failed(Self.address, now: Self.second)
        #expect(penalties.isAvoided(Self.address, now: 31 * Self.second - 1))
        #expect(!penalties.isAvoided(Address(HostID(rawValue: 7), 10), now: Self.second))
        #expect(!penalties.isAvoided(Self.address, now: 31 * Self.second))
        penalties.failed(Self.address, now: 40 * Self.second)
        penalties.succeeded(Self.address)
        #expect(!penalties.isAvoided(Self.address, now: 40 * Self.second))
        #expect(penalties.isEmpty)
    }

    @Test func `at most 4,096 failures are remembered, and old ones make space`() {
        var penalties = OfferPenalties()
        for port: UInt32 in 0..<4_096 { penalties.failed(Address(HostID(rawValue: 1), port), now: 0) }
        penalties.failed(Self.address, now: Self.second)
        #expect(!penalties.isAvoided(Self.address, now: Self.second))
        penalties.failed(Address(HostID(rawValue: 1), 3), now: Self.second)
        #expect(penalties.isAvoided(Address(HostID(rawValue: 1), 3), now: 30 * Self.second))
        penalties.failed(Self.address, now: 30 * Self.second)
        #expect(penalties.isAvoided(Self.address, now: 30 * Self.second))
    }
}

@Suite struct WindowTuningTests {
    private static let second: UInt64 = 1_000_000_000

    /// The window sizes that result from `windows` full windows. The reader takes each at once, one per second, over a
    /// link with the given round trip.
    private static func tuned(
        windows: Int, roundTrip: UInt64, unread: UInt32 = 0, limit: UInt32 = 65_536, largest: UInt32 = 1 << 20
    ) -> [UInt32] {
        var tuning = WindowTuning()
        return (0..<windows).compactMap { index in
            tuning.credited(
                limit, unread: unread, limit: limit, largest: largest, now: UInt64(index) * second,
                roundTrip: roundTrip)
        }
    }

    @Test func `a window doubles if a round trip takes as long as a window lasts`() {
        #expect(Self.tuned(windows: 5, roundTrip: Self.second) == [131_072])
        #expect(Self.tuned(windows: 4, roundTrip: Self.second) == [])
    }

    @Test func `a window stays if it lasts longer than a round trip or the round trip is unknown`() {
        #expect(Self.tuned(windows: 100, roundTrip: Self.second / 100) == [])
        #expect(Self.tuned(windows: 100, roundTrip: 0) == [])
    }

    @Test func `a reader that falls behind gets no larger window`() {
        #expect(Self.tuned(windows: 100, roundTrip: 10 * Self.second, unread: 16_385) == [])
    }

    @Test func `a reader with at most a quarter of the window unread gets a larger window`() {
        #expect(Self.tuned(windows: 5, roundTrip: Self.second, unread: 16_384) == [131_072])
        #expect(
            Self.tuned(windows: 100, roundTrip: Self.second / 2, unread: 16_384) == [], "a window lasts two round trips"
        )
    }

    @Test func `no window grows beyond the maximum`() {
        #expect(Self.tuned(windows: 100, roundTrip: Self.second, largest: 65_536) == [])
        #expect(Self.tuned(windows: 5, roundTrip: Self.second, largest: 100_000) == [100_000])
        #expect(Self.tuned(windows: 5, roundTrip: Self.second, limit: .max / 2 + 1, largest: .max) == [.max])
    }
}
