internal import Chanserv
internal import NIOConcurrencyHelpers

/// Identifies a bound route; a vAddr that is removed and added again is another one.
typealias RouteID = UInt64

/// Identifies an instance; made again for the same key it is another one.
typealias InstanceID = UInt64

/// An instance with what the host knows about it.
final class RunningInstance: Sendable {
    let id: InstanceID
    let key: InstanceKey
    let plugin: any ServingInstance
    /// No route leads to it any more.
    let released = Event()

    init(id: InstanceID, key: InstanceKey, plugin: any ServingInstance) {
        self.id = id
        self.key = key
        self.plugin = plugin
    }
}

/// Leads requests, from any thread, to the instance that is current when their body has come.
final class ServingTable: Sendable {
    typealias Ledger = Generations<RouteID, InstanceID>

    private struct State {
        var ledger = Ledger()
        /// Every instance that a route leads to.
        var instances: [InstanceID: RunningInstance] = [:]
    }

    /// The open requests of the host.
    let open: OpenRequests
    private let state = NIOLockedValueBox(State())

    init(open: OpenRequests) {
        self.open = open
    }

    /// What a bound route answers with, now and after every swap.
    ///
    /// - Parameter options: of the route.
    func handler(for route: RouteID, options: RouteOptions) -> some RequestHandler {
        RouteHandler(table: self, route: route, options: options)
    }

    /// Serves the requests of one route.
    private struct RouteHandler: RequestHandler {
        let table: ServingTable
        let route: RouteID
        let options: RouteOptions

        func begin(_ request: Request, in scope: RequestScope) {
            guard let instance = table.lease(on: route, for: scope) else {
                scope.finish(PluginError(.withdrawn, "\(request.vAddr) is not served any more"))
                return scope.released()
            }
            instance.plugin.begin(request, in: scope, options: options)
        }
    }

    /// Leads a request to an instance, which it then uses until it is released.
    private func lease(on route: RouteID, for scope: RequestScope) -> RunningInstance? {
        var refused: InstanceID?
        while true {
            let found = state.withLockedValue { state -> (Ledger.Lead, RunningInstance)? in
                guard let lead = state.ledger.lead(route), let instance = state.instances[lead.instance] else {
                    return nil
                }
                return (lead, instance)
            }
            guard let (lead, instance) = found, lead.instance != refused else { return nil }
            // It may have been retired since it was looked up; then another one is current.
            if open.lease(lead.instance, generation: lead.generation, for: scope) { return instance }
            refused = lead.instance
        }
    }

    /// A route of the next generation is about to be bound.
    func prepare(_ route: RouteID, _ instance: RunningInstance) {
        // An instance is found only when it can be leased.
        open.open(lease: instance.id)
        state.withLockedValue { state in
            state.instances[instance.id] = instance
            state.ledger.prepare(route, instance.id)
        }
    }

    /// A prepared route is not bound any more.
    func abandon(_ route: RouteID) {
        state.withLockedValue { $0.ledger.abandon(route) }
    }

    /// An instance that was prepared, and never current, is being destroyed.
    func forget(_ instance: RunningInstance) {
        state.withLockedValue { $0.instances[instance.id] = nil }
    }

    /// Swaps what new requests get.
    ///
    /// - Returns: the instances that no route names any more, to be retired.
    func publish(_ routes: [RouteID: RunningInstance]) -> [RunningInstance] {
        for instance in routes.values { open.open(lease: instance.id) }
        let (gone, released) = state.withLockedValue { state in
            for instance in routes.values { state.instances[instance.id] = instance }
            var gone: [RunningInstance] = []
            var released: [RunningInstance] = []
            for action in state.ledger.publish(routes.mapValues(\.id)) {
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

    /// A route that is not current any more is unbound, and its requests have ended or were cancelled.
    func left(_ route: RouteID) {
        perform { $0.left(route) }
    }

    /// The number of the current generation.
    var generation: UInt64 { state.withLockedValue { $0.ledger.current.number } }

    private func perform(_ body: (inout Ledger) -> Ledger.Action?) {
        let released = state.withLockedValue { state -> RunningInstance? in
            guard case .release(let id) = body(&state.ledger) else { return nil }
            return state.instances.removeValue(forKey: id)
        }
        released?.released.happened()
    }
}
