package import Chanserv
package import HostConfiguration
internal import NIOConcurrencyHelpers
package import PluginRuntime
internal import Synchronization

/// Identifies a bound route. A vAddr that is removed and added again has a new id.
package typealias RouteID = UInt64

/// Identifies an instance. An instance that is created again for the same key has a new id.
package typealias InstanceID = UInt64

/// A running instance of a plugin.
package final class RunningInstance: Sendable {
    package let id: InstanceID
    let key: InstanceKey
    package let plugin: any ServingInstance
    /// Happens when no route leads to the instance any more.
    package let released = OneTimeEvent()

    package init(id: InstanceID, key: InstanceKey, plugin: any ServingInstance) {
        self.id = id
        self.key = key
        self.plugin = plugin
    }
}

/// The instances that a route leads to.
package struct RouteTarget: Sendable {
    var instance: RunningInstance
    /// The comparison with the version before; `nil` for none.
    var comparison: VersionComparison?

    package init(_ instance: RunningInstance, comparison: VersionComparison? = nil) {
        self.instance = instance
        self.comparison = comparison
    }

    var all: [RunningInstance] { [instance] + [comparison?.standby].compactMap { $0 } }
}

/// The version of a route's plugin before the current one, which answers a share of the requests, and the results of
/// both since the comparison began.
package final class VersionComparison: Sendable {
    package let standby: RunningInstance
    private let share: Synchronization.Atomic<Int>
    package let new = TallyingObserver()
    package let old = TallyingObserver()

    package init(with standby: RunningInstance, percent: Int) {
        self.standby = standby
        share = Atomic(percent)
    }

    /// The percentage of requests that the standby answers.
    package var percent: Int { share.load(ordering: .relaxed) }

    /// Changes ``percent``.
    func set(percent: Int) { share.store(percent, ordering: .relaxed) }
}

/// Maps routes to plugin instances, by generation, and leads each request to the instance that is current when its body
/// has arrived. Can be used from any thread.
package final class ServingTable: Sendable {
    typealias Ledger = Generations<RouteID, InstanceID>

    fileprivate struct State {
        var ledger = Ledger()
        /// The instances that routes lead to.
        var instances: [InstanceID: RunningInstance] = [:]
        /// The comparisons of current routes.
        var comparisons: [RouteID: VersionComparison] = [:]
    }

    /// The open requests of the host.
    let open: OpenRequests
    private let state = NIOLockedValueBox(State())

    package init(open: OpenRequests) {
        self.open = open
    }

    /// Returns the handler of a bound route. It uses the current instance of each generation.
    ///
    /// - Parameter options: the options of the route.
    package func handler(for route: RouteID, options: RouteOptions) -> some RequestHandler {
        RouteHandler(table: self, route: route, options: options)
    }

    /// Serves the requests of one route.
    private struct RouteHandler: RequestHandler {
        let table: ServingTable
        let route: RouteID
        let options: RouteOptions

        func begin(_ request: Request, in scope: RequestScope) {
            guard let (instance, observer) = table.lease(on: route, for: scope) else {
                scope.finish(PluginError(.withdrawn, "\(request.vAddr) is not served any more"))
                return scope.handlerFinished()
            }
            if let observer { scope.observe(by: observer) }
            instance.plugin.begin(request, in: scope, options: options)
        }
    }

    /// Returns an instance of a route after leasing it for a request, and the observer of the request. The request uses
    /// the instance until it is released.
    private func lease(
        on route: RouteID, for scope: RequestScope
    ) -> (RunningInstance, (any RequestObserver)?)? {
        var refused: InstanceID?
        while true {
            let found = state.withLockedValue { $0.lead(route) }
            guard let (lead, instance, observer) = found, lead.instance != refused else { return nil }
            // The instance may have been retired since the look-up. Then another one is current.
            if open.use(instance: lead.instance, hostGeneration: lead.generation, for: scope) {
                return (instance, observer)
            }
            refused = lead.instance
        }
    }

    /// Records a route of the next generation before it is bound.
    package func prepare(_ route: RouteID, _ instance: RunningInstance) {
        // The lease must exist before a request can find the instance.
        open.open(instance: instance.id)
        state.withLockedValue { state in
            state.instances[instance.id] = instance
            state.ledger.prepare(route, instance.id)
        }
    }

    /// Removes a prepared route after it was unbound.
    package func abandon(_ route: RouteID) {
        state.withLockedValue { $0.ledger.abandon(route) }
    }

    /// Removes an instance that was prepared and never current, before it is destroyed.
    func forget(_ instance: RunningInstance) {
        state.withLockedValue { $0.instances[instance.id] = nil }
    }

    /// Replaces the mapping for new requests.
    ///
    /// - Parameter isNewGeneration: `false` if no route and no current instance has changed.
    /// - Returns: the instances that no current route uses. The caller retires them.
    package func publish(_ routes: [RouteID: RouteTarget], isNewGeneration: Bool = true) -> [RunningInstance] {
        for instance in routes.values.flatMap(\.all) { open.open(instance: instance.id) }
        let (gone, released) = state.withLockedValue { state in
            for instance in routes.values.flatMap(\.all) { state.instances[instance.id] = instance }
            state.comparisons = routes.compactMapValues(\.comparison)
            var gone: [RunningInstance] = []
            var released: [RunningInstance] = []
            let targets = routes.mapValues { Ledger.Target($0.instance.id, standby: $0.comparison?.standby.id) }
            for action in state.ledger.publish(targets, isNewGeneration: isNewGeneration) {
                switch action {
                case .drain(let id): gone += [state.instances[id]].compactMap { $0 }
                case .release(let id):
                    let instance = state.instances.removeValue(forKey: id)
                    gone += [instance].compactMap { $0 }
                    released += [instance].compactMap { $0 }
                }
            }
            return (gone, released)
        }
        for instance in released { instance.released.happened() }
        return gone
    }

    /// Records that a removed route is unbound and its requests have ended or were cancelled.
    package func left(_ route: RouteID) {
        perform { $0.left(route) }
    }

    /// The number of the current generation.
    package var generation: UInt64 { state.withLockedValue { $0.ledger.current.number } }

    private func perform(_ body: (inout Ledger) -> Ledger.Action?) {
        let released = state.withLockedValue { state -> RunningInstance? in
            guard case .release(let id) = body(&state.ledger) else { return nil }
            return state.instances.removeValue(forKey: id)
        }
        released?.released.happened()
    }
}

extension ServingTable.State {
    /// Selects the instance and the observer of a request. During a comparison the standby gets its share of the
    /// requests at random, so that no pattern in the requests of clients matters.
    fileprivate func lead(
        _ route: RouteID
    ) -> (ServingTable.Ledger.Lead, RunningInstance, (any RequestObserver)?)? {
        let comparison = comparisons[route]
        let lead = ledger.lead(route) { comparison.map { Int.random(in: 0..<100) < $0.percent } ?? false }
        guard let lead, let instance = instances[lead.instance] else { return nil }
        guard let comparison else { return (lead, instance, nil) }
        return (lead, instance, lead.instance == comparison.standby.id ? comparison.old : comparison.new)
    }
}
