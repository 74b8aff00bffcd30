import Chanserv
import ChanservHost
import HostConfiguration
import NIOConcurrencyHelpers
import NIOCore
import PluginRuntime
import TestSupport
import Testing

/// How requests are routed to instances, and how long they lease them.
@Suite("Serving table", .timeLimit(.minutes(1)))
struct ServingTableTests {
    /// An instance that keeps its requests open until the test ends them.
    private final class HoldingInstance: ServingInstance {
        let name: String
        let destroyed = NIOLockedValueBox<Int?>(nil)
        private let scopes = NIOLockedValueBox<[RequestScope]>([])

        init(_ name: String) { self.name = name }

        var version: String { "" }
        var statistics: PluginStatistics { PluginStatistics(PluginCounters()) }
        var workers: [WorkerStatus] { [] }
        /// The number of requests that began.
        var count: Int { scopes.withLockedValue { $0.count } }

        func begin(_ request: Request, in scope: RequestScope, options: RouteOptions) {
            scopes.withLockedValue { $0.append(scope) }
        }

        /// Ends a request.
        ///
        /// - Parameters:
        ///   - releases: whether the instance also releases it. Default: true.
        ///   - code: the code of the error that the client gets.
        func end(_ index: Int, releases: Bool = true, code: PluginError.Code = .notFound) {
            let scope = scopes.withLockedValue { $0[index] }
            scope.finish(PluginError(code, name))
            if releases { scope.handlerFinished() }
        }

        func destroy(openRequests: Int, grace: Duration) async -> PluginInstance.Retirement {
            destroyed.withLockedValue { $0 = openRequests }
            return openRequests == 0 ? .destroyed : .leaked(openCalls: openRequests)
        }
    }

    private let network = InMemoryMultiplexer()
    private let open: OpenRequests
    private let table: ServingTable
    private let client: Client
    /// Keeps the services alive. A service that is deallocated withdraws its name.
    private let services = NIOLockedValueBox<[VirtualService]>([])

    init() {
        open = OpenRequests(surroundings: network.surroundings)
        table = ServingTable(open: open)
        client = Client(multiplexer: network)
    }

    private func instance(_ id: InstanceID, _ name: String) -> (RunningInstance, HoldingInstance) {
        let plugin = HoldingInstance(name)
        let key = InstanceKey(plugin: name, digest: "", config: "")
        return (RunningInstance(id: id, key: key, plugin: plugin), plugin)
    }

    @discardableResult
    private func bind(_ name: String, _ route: RouteID) throws -> VirtualService {
        var configuration = Server.Configuration()
        configuration.maxErrorMass = 0
        let service = try Server(multiplexer: network, configuration: configuration, open: open)
            .serve(name, handler: table.handler(for: route, options: RouteOptions()))
        services.withLockedValue { $0.append(service) }
        return service
    }

    /// Posts a request and returns the message of the error that ends its listing, or `well`.
    private func post(_ name: String) -> Task<String, any Error> {
        Task { [client] in
            do {
                for try await _ in try await client.lookupAndPost(name, body: "") {}
                return "well"
            } catch let error as ChanservError {
                return error.message
            }
        }
    }

    /// Waits until the instance has begun `count` requests.
    private func begun(_ count: Int, _ instance: HoldingInstance) async throws {
        try await eventually { instance.count >= count }
    }

    @Test func `a request leases its instance until it is released, not until it is answered`() async throws {
        let (running, plugin) = instance(7, "a")
        _ = table.publish([1: running])
        let service = try bind("x", 1)
        let answer = post("x")
        try await begun(1, plugin)
        #expect(open.count(.instance(7)) == 1)
        #expect(open.countByGeneration == [1: 1])
        plugin.end(0, releases: false)
        #expect(try await answer.value == "a")
        #expect(service.counters.requestsOpen == 0)
        #expect(open.count(.instance(7)) == 1)
        #expect(await running.plugin.retire(7, in: open, deadline: .now, grace: .zero) == .leaked(openCalls: 1))
        open.requests(.instance(7)).first?.handlerFinished()
        #expect(open.count(.all) == 0)
    }

    @Test func `requests of several generations can lease one instance`() async throws {
        let (first, plugin) = instance(7, "a")
        let (second, _) = instance(8, "b")
        _ = table.publish([1: first])
        try bind("x", 1)
        let old = post("x")
        try await begun(1, plugin)
        _ = table.publish([1: first, 2: second])
        let new = post("x")
        try await begun(2, plugin)
        #expect(open.countByGeneration == [1: 1, 2: 1])
        #expect(open.count(.instance(7)) == 2)
        for index in 0..<2 { plugin.end(index) }
        _ = try await (old.value, new.value)
    }

    @Test func `a route whose instance has retired refuses requests until a current one is published`() async throws {
        let (old, oldPlugin) = instance(7, "old")
        let (new, newPlugin) = instance(8, "new")
        _ = table.publish([1: old])
        try bind("x", 1)
        // As if the old instance retired between look-up and lease.
        open.close(instance: 7)
        #expect(try await post("x").value == "x is not served any more")
        #expect(table.publish([1: new]).map(\.id) == [7])
        let answer = post("x")
        try await begun(1, newPlugin)
        newPlugin.end(0)
        #expect(try await answer.value == "new")
        #expect(oldPlugin.count == 0)
    }

    @Test func `an instance that was destroyed is never leased again`() async throws {
        let (old, oldPlugin) = instance(7, "old")
        _ = table.publish([1: old])
        let service = try bind("x", 1)
        _ = table.publish([:])
        // The route still points to the instance.
        #expect(await old.plugin.retire(7, in: open, deadline: .now, grace: .zero) == .destroyed)
        #expect(try await post("x").value == "x is not served any more")
        #expect(oldPlugin.count == 0)
        #expect(service.counters.failures == 0)
    }

    @Test func `a removed route serves requests with its instance until it has left`() async throws {
        let (running, plugin) = instance(7, "a")
        _ = table.publish([1: running])
        try bind("x", 1)
        #expect(table.publish([:]).map(\.id) == [7])
        #expect(!running.released.hasHappened)
        let late = post("x")
        try await begun(1, plugin)
        #expect(open.countByGeneration == [2: 1])
        table.left(1)
        #expect(running.released.hasHappened)
        #expect(try await post("x").value == "x is not served any more")
        plugin.end(0)
        #expect(try await late.value == "a")
        #expect(await running.plugin.retire(7, in: open, deadline: .now) == .destroyed)
    }

    @Test func `a prepared route serves requests of the next generation before the swap`() async throws {
        let (running, plugin) = instance(7, "a")
        table.prepare(1, running)
        try bind("x", 1)
        let early = post("x")
        try await begun(1, plugin)
        #expect(open.countByGeneration == [1: 1])
        #expect(table.generation == 0)
        _ = table.publish([1: running])
        plugin.end(0)
        #expect(try await early.value == "a")
        let (other, otherPlugin) = instance(8, "b")
        table.prepare(2, other)
        table.abandon(2)
        try bind("y", 2)
        #expect(try await post("y").value == "y is not served any more")
        #expect(otherPlugin.count == 0)
    }

    @Test func `a retirement waits for its requests and cancels them at the deadline with the reason`() async throws {
        let (running, plugin) = instance(7, "a")
        _ = table.publish([1: running])
        try bind("x", 1)
        let (first, second) = (post("x"), post("x"))
        try await begun(2, plugin)
        let waiting = Task { [open] in await running.plugin.retire(7, in: open, deadline: .now + .seconds(50)) }
        plugin.end(0)
        plugin.end(1)
        #expect(await waiting.value == .destroyed)
        #expect(plugin.destroyed.withLockedValue { $0 } == 0)
        _ = try await (first.value, second.value)

        let (next, nextPlugin) = instance(8, "b")
        _ = table.publish([1: next])
        let third = post("x")
        try await begun(1, nextPlugin)
        let end = await next.plugin.retire(8, in: open, deadline: .now, grace: .zero, reason: "it was time")
        #expect(end == .leaked(openCalls: 1))
        #expect(try await third.value == "it was time")
        nextPlugin.end(0)
        #expect(open.count(.all) == 0)
    }

    @Test func `a comparison leads a share of the requests to the version before and counts the results of both`()
        async throws
    {
        let (old, oldPlugin) = instance(7, "a")
        let (new, newPlugin) = instance(8, "b")
        _ = table.publish([1: old])
        let comparison = VersionComparison(with: old, percent: 50)
        #expect(table.publish([1: RouteTarget(new, comparison: comparison)]).isEmpty)
        try bind("x", 1)
        // The chance that one of them gets none is 2 in 2 to the power of 64.
        for _ in 0..<64 {
            let (before, beforeNew) = (oldPlugin.count, newPlugin.count)
            let answer = post("x")
            try await eventually { oldPlugin.count + newPlugin.count > before + beforeNew }
            if oldPlugin.count > before {
                oldPlugin.end(before, code: .internal)
            } else {
                // The client's error is no result.
                newPlugin.end(beforeNew)
            }
            _ = try await answer.value
        }
        #expect(oldPlugin.count > 0 && newPlugin.count > 0)
        #expect(comparison.old.tally.failed == oldPlugin.count)
        #expect(comparison.new.tally == RequestTally())

        #expect(table.publish([1: RouteTarget(new)], isNewGeneration: false).map(\.id) == [7])
        #expect(table.generation == 2)
        let before = newPlugin.count
        let last = post("x")
        try await begun(before + 1, newPlugin)
        newPlugin.end(before)
        _ = try await last.value
    }
}

extension ServingTable {
    /// Publishes routes without a comparison.
    @_disfavoredOverload
    fileprivate func publish(_ routes: [RouteID: RunningInstance]) -> [RunningInstance] {
        publish(routes.mapValues { RouteTarget($0) })
    }
}
