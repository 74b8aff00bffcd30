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
    /// No request holds it and none ever will.
    let released = Event()

    init(id: InstanceID, key: InstanceKey, plugin: any ServingInstance) {
        self.id = id
        self.key = key
        self.plugin = plugin
    }
}

/// Leads requests, on whatever thread they come, to the instance that is current when they begin.
final class ServingTable: Sendable {
    typealias Ledger = Generations<RouteID, InstanceID>

    private struct State {
        var ledger = Ledger()
        /// Every instance that a request could be led to or that one holds.
        var instances: [InstanceID: RunningInstance] = [:]
    }

    private let state = NIOLockedValueBox(State())

    /// What a bound route answers with, now and after every swap.
    ///
    /// - Parameter options: of the route.
    func sourceFunc(for route: RouteID, options: RouteOptions) -> SourceFunc {
        { request in
            guard let (hold, instance) = self.begin(on: route) else {
                throw PluginError(.withdrawn, "\(request.vAddr) is not served any more")
            }
            return try await instance.plugin.serve(request, options: options) { self.end(hold) }
        }
    }

    /// A route of the next generation is about to be bound.
    func prepare(_ route: RouteID, _ instance: RunningInstance) {
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

    /// How many requests hold each generation.
    var requestsByGeneration: [UInt64: Int] { state.withLockedValue { $0.ledger.requestsByGeneration } }

    private func begin(on route: RouteID) -> (Ledger.Hold, RunningInstance)? {
        state.withLockedValue { state in
            guard let hold = state.ledger.begin(on: route), let instance = state.instances[hold.instance] else {
                return nil
            }
            return (hold, instance)
        }
    }

    private func end(_ hold: Ledger.Hold) {
        perform { $0.end(hold) }
    }

    private func perform(_ body: (inout Ledger) -> Ledger.Action?) {
        let released = state.withLockedValue { state -> RunningInstance? in
            guard case .release(let id) = body(&state.ledger) else { return nil }
            return state.instances.removeValue(forKey: id)
        }
        released?.released.happened()
    }
}
