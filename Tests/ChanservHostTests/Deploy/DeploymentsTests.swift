import Chanserv
import ChanservHost
import HostConfiguration
import PluginRuntime
import Testing

/// The probations of several routes, and the versions that were rolled back.
@Suite struct DeploymentsTests {
    private struct Stub: ServingInstance {
        var name = "stub"
        var version = ""
        var statistics: PluginStatistics { PluginStatistics(PluginCounters()) }
        var workers: [WorkerStatus] { [] }

        func begin(_ request: Request, in scope: RequestScope, options: RouteOptions) {}
        func destroy(openRequests: Int, grace: Duration) async -> PluginInstance.Retirement { .destroyed }
    }

    private let now = ContinuousClock.now

    private func key(_ digest: String) -> InstanceKey { InstanceKey(plugin: "p", digest: digest, config: "{}") }

    private func instance(_ id: InstanceID, _ digest: String) -> RunningInstance {
        RunningInstance(id: id, key: key(digest), plugin: Stub())
    }

    private func planned(_ vAddr: String, _ digest: String) -> PlannedRoute<RouteOptions> {
        PlannedRoute(vAddr: vAddr, instance: key(digest), options: options)
    }

    private var options: RouteOptions {
        var options = RouteOptions()
        options.deploy.probation = .seconds(60)
        return options
    }

    /// Route 1 at `x` has returned from version b to version a.
    private func rolledBack() -> Deployments {
        var deployments = Deployments()
        deployments.replaced(1, by: key("b"), previous: instance(7, "a"), options, now: now)
        let version = deployments.rollBack(1, planned("x", "b"), 8, because: .operatorDecision, now: now)
        #expect(version == key("a"))
        return deployments
    }

    @Test func `a route returns to the last version that has passed`() {
        var deployments = Deployments()
        deployments.replaced(1, by: key("b"), previous: instance(7, "a"), options, now: now)
        deployments.replaced(1, by: key("c"), previous: instance(8, "b"), options, now: now)
        #expect(deployments.standbys == [key("a")])
        let version = deployments.rollBack(1, planned("x", "c"), 9, because: .operatorDecision, now: now)
        #expect(version == key("a") && deployments.standbys.isEmpty)
    }

    @Test func `without a probation, and with the old version again, there is nothing to judge`() {
        var deployments = Deployments()
        deployments.replaced(1, by: key("b"), previous: instance(7, "a"), RouteOptions(), now: now)
        #expect(deployments.records.isEmpty)
        deployments.replaced(1, by: key("b"), previous: instance(7, "a"), options, now: now)
        deployments.replaced(1, by: key("a"), previous: instance(8, "b"), options, now: now)
        #expect(deployments.records.isEmpty)
        let action = deployments.judge(1, now: now)
        #expect(action == .doNothing)
    }

    @Test func `a rejected version is left out at its route only`() {
        let deployments = rolledBack()
        let (routes, reasons) = deployments.resolve(
            [planned("x", "b"), planned("y", "b")], running: [planned("x", "a")])
        #expect(routes == [planned("x", "a"), planned("y", "b")])
        #expect(reasons.count == 1 && reasons[0].hasPrefix("route 'x' stays at p@a: p@b was rolled back"))
    }

    @Test func `a rejected version is forgotten when the configuration has another one or no such route`() {
        for (configured, wanted, isKept) in [
            ([planned("x", "b")], [planned("x", "a")], true),
            ([planned("x", "c")], [planned("x", "c")], false),
            ([planned("x", "a")], [planned("x", "a")], false),
            // A drop-in that is wrong at present runs on with its last version.
            ([], [planned("x", "a")], true),
            ([], [], false),
            // A forced reload.
            ([planned("x", "b")], [], false),
        ] as [([PlannedRoute<RouteOptions>], [PlannedRoute<RouteOptions>], Bool)] {
            var deployments = rolledBack()
            deployments.retainRejected(configured: configured, wanted: wanted)
            #expect((deployments.rejected["x"] != nil) == isKept, "\(configured)")
        }
    }

    @Test func `a failed instance ends its probation with a return`() {
        var deployments = Deployments()
        deployments.replaced(1, by: key("b"), previous: instance(7, "a"), options, now: now)
        deployments.failed(1, "signal 6")
        deployments.failed(2, "another route")
        let action = deployments.judge(1, now: now)
        #expect(action == .rollBack(.instanceFailed("signal 6")))
    }

    @Test func `new options change the share and the end of a probation, and none ends it`() throws {
        var deployments = Deployments()
        deployments.replaced(1, by: key("b"), previous: instance(7, "a"), options, now: now)
        var changed = options.deploy
        (changed.control, changed.probation) = (33, .seconds(1))
        deployments.reconfigure(1, changed)
        #expect(try #require(deployments.records[1]).comparison.percent == 33)
        let action = deployments.judge(1, now: now + .seconds(1))
        #expect(action == .hold)
        changed.probation = nil
        deployments.reconfigure(1, changed)
        #expect(deployments.records.isEmpty)
    }
}
