import NIOCore
import Testing

@testable import AstraNet

/// Addresses of hosts behind routers; found by the simulation.
@Suite("Addresses that hosts behind a router name")
struct JoinPlanFollowTests {
    private let host = HostID(rawValue: 5)

    @Test("They are forgotten once nobody speaks of the host any more")
    func forgetsHostsNobodySpeaksOf() throws {
        let address = try SocketAddress(ipAddress: "127.0.0.1", port: 5_555)
        var plan = JoinPlan()
        plan.follow(host, at: address, now: 0)
        let first = plan.tick(now: 0, isLinked: { _ in false }, isWanted: { _ in true })
        #expect(first == [.connect(address, expecting: host)])
        plan.failed(address, now: 0, jitter: 0)
        let later = plan.tick(now: 120_000_000_000, isLinked: { _ in false }, isWanted: { _ in false })
        #expect(later.isEmpty)
        #expect(plan.isIdle)
    }
}
