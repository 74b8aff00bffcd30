import AstraNet
import NIOCore
import Testing

@Suite struct JoinPlanTests {
    private static let second: UInt64 = 1_000_000_000
    private static let target = JoinPlan.Target(.tcp(host: "mesh", port: 5))
    private static let addresses = (1...9).map { try! SocketAddress(ipAddress: "127.0.0.\($0)", port: 5) }
    private static let hosts = (1...9).map { HostID(rawValue: $0) }

    /// A plan whose target was looked up at second 0. The lookup gave `count` addresses, and all are being connected.
    private static func plan(addresses count: Int) -> JoinPlan {
        var plan = JoinPlan()
        plan.add(target, now: 0)
        #expect(plan.tick(now: 0) { _ in false } == [.lookUp(target)])
        plan.lookedUp(target, Array(addresses[..<count]), now: 0, jitter: 0)
        let connects = addresses[..<count].map { JoinPlan.Action.connect($0, expecting: []) }
        #expect(Set(plan.tick(now: 0) { _ in false }) == Set(connects))
        return plan
    }

    @Test func `an empty plan has no actions`() {
        var plan = JoinPlan()
        #expect(plan.isIdle)
        #expect(plan.tick(now: .max) { _ in true } == [])
    }

    @Test func `a name is looked up every 10 s, with one lookup at a time`() {
        var plan = Self.plan(addresses: 1)
        #expect(plan.tick(now: 10 * Self.second - 1) { _ in false } == [])
        #expect(plan.tick(now: 10 * Self.second) { _ in false } == [.lookUp(Self.target)])
        #expect(plan.tick(now: 100 * Self.second) { _ in false } == [], "a lookup is still running")
        plan.lookedUp(Self.target, [Self.addresses[0]], now: 100 * Self.second, jitter: 0)
        #expect(plan.tick(now: 110 * Self.second) { _ in false } == [.lookUp(Self.target)])
    }

    @Test func `a failed lookup is repeated with back-off, and known addresses stay`() {
        var plan = Self.plan(addresses: 1)
        #expect(plan.connected(Self.addresses[0], 1, coveredBy: nil) == true)
        #expect(plan.tick(now: 10 * Self.second) { _ in false } == [.lookUp(Self.target)])
        plan.lookedUp(Self.target, nil, now: 10 * Self.second, jitter: 0)
        #expect(plan.tick(now: 10 * Self.second + 124_999_999) { _ in false } == [])
        #expect(plan.tick(now: 10 * Self.second + 125_000_000) { _ in false } == [.lookUp(Self.target)])
        plan.lookedUp(Self.target, nil, now: 20 * Self.second, jitter: 0)
        #expect(plan.tick(now: 20 * Self.second + 249_999_999) { _ in false } == [])
        #expect(plan.linkDown(1, now: 20 * Self.second, jitter: 0)?.0 == Self.addresses[0])
    }

    @Test func `every address is joined, and each lost link is joined again on its own`() {
        var plan = Self.plan(addresses: 3)
        for (link, address) in Self.addresses[..<3].enumerated() {
            #expect(plan.connected(address, UInt64(link), coveredBy: nil) == true)
        }
        #expect(plan.tick(now: Self.second) { _ in false } == [])
        let down = plan.linkDown(1, now: Self.second, jitter: 0.5)
        #expect(down?.0 == Self.addresses[1])
        #expect(down?.1 == .milliseconds(187.5))
        #expect(plan.linkDown(1, now: Self.second, jitter: 0.5) == nil)
        #expect(plan.tick(now: Self.second + 187_499_999) { _ in false } == [])
        #expect(
            plan.tick(now: Self.second + 187_500_000) { _ in false } == [.connect(Self.addresses[1], expecting: [])])
    }

    @Test func `the back-off doubles up to a minute and is reset by a link`() {
        var plan = Self.plan(addresses: 1)
        var pauses: [Duration] = []
        for _ in 0..<12 { pauses.append(plan.failed(Self.addresses[0], now: 0, jitter: 0)) }
        #expect(pauses[..<4] == [.milliseconds(125), .milliseconds(250), .milliseconds(500), .seconds(1)])
        #expect(pauses.last == .seconds(30))
        #expect(plan.failed(Self.addresses[0], now: 0, jitter: 1) == .seconds(60))
        #expect(plan.connected(Self.addresses[0], 1, coveredBy: nil) == true)
        #expect(plan.linkDown(1, now: 0, jitter: 0)?.1 == .milliseconds(125))
    }

    @Test func `an address of a linked host is not joined until that host is lost`() {
        var plan = Self.plan(addresses: 2)
        #expect(plan.connected(Self.addresses[0], 1, coveredBy: nil) == true)
        #expect(plan.connected(Self.addresses[1], 2, coveredBy: Self.hosts[0]) == true)
        #expect(plan.linkDown(2, now: 0, jitter: 0) == nil, "the second link was closed as a duplicate")
        plan.hostLost(Self.hosts[1], now: Self.second)
        #expect(plan.tick(now: 9 * Self.second) { _ in false } == [])
        plan.hostLost(Self.hosts[0], now: 9 * Self.second)
        #expect(plan.tick(now: 9 * Self.second) { _ in false } == [.connect(Self.addresses[1], expecting: [])])
    }

    @Test func `an address no longer in DNS is dropped when its link ends`() {
        var plan = Self.plan(addresses: 2)
        #expect(plan.connected(Self.addresses[0], 1, coveredBy: nil) == true)
        plan.failed(Self.addresses[1], now: 0, jitter: 0)
        plan.lookedUp(Self.target, [Self.addresses[2]], now: 0, jitter: 0)
        #expect(plan.tick(now: 9 * Self.second) { _ in false } == [.connect(Self.addresses[2], expecting: [])])
        _ = plan.linkDown(1, now: 9 * Self.second, jitter: 0)
        plan.lookedUp(Self.target, [Self.addresses[2]], now: 9 * Self.second, jitter: 0)
        #expect(plan.tick(now: 18 * Self.second) { _ in false } == [])
    }

    @Test func `a removed target is forgotten and its links are closed`() {
        var plan = Self.plan(addresses: 3)
        #expect(plan.connected(Self.addresses[0], 1, coveredBy: nil) == true)
        plan.failed(Self.addresses[1], now: 0, jitter: 0)
        #expect(plan.remove(Self.target) == [.close(1)])
        #expect(plan.isIdle)
        #expect(
            plan.connected(Self.addresses[2], 3, coveredBy: nil) == false,
            "a link that comes up after the removal is not kept")
        plan.lookedUp(Self.target, Self.addresses, now: 0, jitter: 0)
        #expect(plan.isIdle)
        #expect(plan.remove(Self.target) == [])
    }

    @Test func `a target added twice is joined until it is removed twice`() {
        var plan = Self.plan(addresses: 1)
        plan.add(Self.target, now: 0)
        #expect(plan.connected(Self.addresses[0], 1, coveredBy: nil) == true)
        #expect(plan.remove(Self.target) == [])
        #expect(plan.linkDown(1, now: 0, jitter: 0) != nil)
        #expect(plan.remove(Self.target) == [])
        #expect(plan.isIdle)
    }

    @Test func `an address of two names is joined once and kept until both are removed`() {
        let other = JoinPlan.Target(.tcp(host: "also mesh", port: 5))
        var plan = Self.plan(addresses: 1)
        plan.add(other, now: 0)
        plan.lookedUp(other, [Self.addresses[0]], now: 0, jitter: 0)
        #expect(plan.connected(Self.addresses[0], 1, coveredBy: nil) == true)
        #expect(plan.remove(Self.target) == [])
        #expect(plan.remove(other) == [.close(1)])
    }

    // MARK: - Peers that go away

    @Test func `the address of a peer that goes away is joined again while the old link is open`() {
        var plan = Self.plan(addresses: 2)
        #expect(plan.connected(Self.addresses[0], 1, coveredBy: nil) == true)
        #expect(plan.connected(Self.addresses[1], 2, coveredBy: Self.hosts[1]) == true)
        #expect(
            plan.goesAway(1, to: Self.hosts[0], age: Self.second, now: 5 * Self.second, jitter: 0) == true)
        #expect(plan.tick(now: 5 * Self.second) { _ in true } == [.connect(Self.addresses[0], expecting: [])])
        #expect(plan.connected(Self.addresses[0], 3, coveredBy: nil) == true)
        // The loss of the old link concerns the plan no more.
        #expect(plan.linkDown(1, now: 6 * Self.second, jitter: 0) == nil)
        #expect(plan.goesAway(1, to: Self.hosts[0], age: Self.second, now: 6 * Self.second, jitter: 0) == false)
        #expect(plan.tick(now: 6 * Self.second) { _ in true } == [])
    }

    @Test func `an address that another link covers is joined again when the host of that link goes away`() {
        var plan = Self.plan(addresses: 2)
        #expect(plan.connected(Self.addresses[0], 1, coveredBy: Self.hosts[0]) == true)
        #expect(plan.connected(Self.addresses[1], 2, coveredBy: Self.hosts[1]) == true)
        #expect(plan.goesAway(7, to: Self.hosts[0], age: Self.second, now: Self.second, jitter: 0) == true)
        #expect(plan.tick(now: Self.second) { _ in true } == [.connect(Self.addresses[0], expecting: [])])
    }

    @Test func `a peer that goes away at once each time is joined with pauses`() {
        var plan = Self.plan(addresses: 1)
        for link: UInt64 in 1...3 {
            let now = link * Self.second
            #expect(plan.connected(Self.addresses[0], link, coveredBy: nil) == true)
            #expect(
                plan.goesAway(link, to: Self.hosts[0], age: Self.second - 1, now: now, jitter: 0) == true)
            #expect(plan.tick(now: now + 124_999_999) { _ in true } == [])
            #expect(plan.tick(now: now + 125_000_000) { _ in true } == [.connect(Self.addresses[0], expecting: [])])
        }
    }

    @Test func `an address that only a host behind a router announced is not joined when that host goes away`() {
        var plan = JoinPlan()
        plan.follow(Self.hosts[0], at: Self.addresses[0], over: 1, now: 0)
        #expect(plan.tick(now: 0) { _ in false }.count == 1)
        #expect(plan.connected(Self.addresses[0], 2, coveredBy: nil) == true)
        #expect(plan.goesAway(2, to: Self.hosts[0], age: Self.second, now: Self.second, jitter: 0) == false)
        #expect(plan.tick(now: Self.second) { _ in false } == [])
    }

    // MARK: - Follows

    @Test func `a followed address is joined and its host is expected there`() {
        var plan = JoinPlan()
        plan.follow(Self.hosts[0], at: Self.addresses[0], over: 1, now: 0)
        plan.follow(Self.hosts[0], at: Self.addresses[0], over: 1, now: 0)
        let connect = JoinPlan.Action.connect(Self.addresses[0], expecting: [Self.hosts[0]])
        #expect(plan.tick(now: 0) { _ in false } == [connect])
        #expect(plan.tick(now: 0) { _ in false } == [])
        plan.failed(Self.addresses[0], now: 0, jitter: 0)
        #expect(plan.tick(now: Self.second) { _ in false } == [connect])
    }

    @Test func `an address followed for two host ids accepts either`() {
        var plan = JoinPlan()
        plan.follow(Self.hosts[0], at: Self.addresses[0], over: 1, now: 0)
        plan.follow(Self.hosts[1], at: Self.addresses[0], over: 1, now: 0)
        #expect(
            plan.tick(now: 0) { _ in false }
                == [.connect(Self.addresses[0], expecting: [Self.hosts[0], Self.hosts[1]])])
        #expect(plan.unfollow(Self.hosts[0]) == [])
        plan.failed(Self.addresses[0], now: 0, jitter: 0)
        #expect(
            plan.tick(now: Self.second) { _ in false } == [.connect(Self.addresses[0], expecting: [Self.hosts[1]])])
    }

    @Test func `an address that is also a join target may lead to any host`() {
        var plan = JoinPlan()
        plan.add(Self.target, now: 0)
        plan.lookedUp(Self.target, [Self.addresses[0]], now: 0, jitter: 0)
        plan.follow(Self.hosts[0], at: Self.addresses[0], over: 1, now: 0)
        #expect(plan.tick(now: 0) { _ in true }.contains(.connect(Self.addresses[0], expecting: [])))
    }

    @Test func `a linked host is not followed until it is lost`() {
        var plan = JoinPlan()
        plan.follow(Self.hosts[0], at: Self.addresses[0], over: 1, now: 0)
        #expect(plan.tick(now: 0) { $0 == Self.hosts[0] } == [])
        #expect(plan.tick(now: Self.second) { _ in false } == [])
        plan.hostLost(Self.hosts[0], now: 2 * Self.second)
        #expect(plan.tick(now: 2 * Self.second) { _ in false }.count == 1)
    }

    @Test func `a host without offers is no longer followed, but its link stays`() {
        var plan = JoinPlan()
        plan.follow(Self.hosts[0], at: Self.addresses[0], over: 1, now: 0)
        plan.follow(Self.hosts[0], at: Self.addresses[1], over: 1, now: 0)
        _ = plan.tick(now: 0) { _ in false }
        #expect(plan.connected(Self.addresses[0], 1, coveredBy: nil) == true)
        #expect(plan.unfollow(Self.hosts[0]) == [])
        #expect(plan.isIdle)
        #expect(plan.unfollow(Self.hosts[0]) == [])
    }

    @Test func `at most eight addresses of a host are followed`() {
        var plan = JoinPlan()
        for address in Self.addresses { plan.follow(Self.hosts[0], at: address, over: 1, now: 0) }
        #expect(plan.tick(now: 0) { _ in false }.count == 8)
    }

    @Test func `at most 16 follows are tried at a time, and at most 8 from one link`() throws {
        var plan = JoinPlan()
        func follow(_ count: Int, _ link: UInt64) throws {
            for index in 0..<count {
                let address = try SocketAddress(ipAddress: "127.0.\(link).\(index)", port: 5)
                plan.follow(HostID(rawValue: link * 100 + UInt64(index)), at: address, over: link, now: 0)
            }
        }
        try follow(40, 1)
        let first = plan.tick(now: 0) { _ in false }
        #expect(first.count == 8)
        #expect(plan.tick(now: 0) { _ in false } == [])
        for case .connect(let address, _) in first { plan.failed(address, now: 0, jitter: 0) }
        #expect(plan.tick(now: 0) { _ in false }.count == 8)
        // A link with unreachable addresses does not delay the follows of other links.
        for link: UInt64 in 2...9 { try follow(1, link) }
        #expect(plan.tick(now: 0) { _ in false }.count == 8)
        try follow(1, 10)
        #expect(plan.tick(now: 0) { _ in false } == [], "16 attempts are running")
    }

    @Test func `follows of a link beyond its share are ignored until others are removed`() throws {
        var plan = JoinPlan()
        for index in 0..<4_096 {
            let address = try SocketAddress(ipAddress: "127.1.\(index / 256).\(index % 256)", port: 5)
            plan.follow(HostID(rawValue: UInt64(index + 100)), at: address, over: 1, now: 0)
        }
        let newest = Self.hosts[0]
        plan.follow(newest, at: Self.addresses[0], over: 1, now: 0)
        #expect(plan.unfollow(newest) == [])
        _ = plan.unfollow(HostID(rawValue: 100))
        plan.follow(newest, at: Self.addresses[0], over: 1, now: 0)
        let other = Self.hosts[1]
        plan.follow(other, at: Self.addresses[1], over: 2, now: 0)
        var seen: Set<Set<HostID>> = []
        for _ in 0..<300 {
            for case .connect(let address, let expected) in plan.tick(now: 0, isLinked: { _ in false }) {
                seen.insert(expected)
                plan.failed(address, now: 0, jitter: 0)
            }
        }
        #expect(seen.count == 2_049)
        #expect(seen.contains([newest]) && seen.contains([other]))
    }
}
