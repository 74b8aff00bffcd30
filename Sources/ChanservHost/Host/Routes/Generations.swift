/// State machine that maps routes to instances, in numbered generations.
///
/// The current mapping is one immutable value, which ``publish(_:)`` replaces. An instance that no current route uses
/// is *retired*. It is released when the last route that leads to it is unbound. ``OpenRequests`` knows which requests
/// still use an instance.
///
/// - `Route`: identifies a bound route. A vAddr that is removed and added again is another route.
/// - `Instance`: identifies an instance. An instance that is created again for the same key is another one.
package struct Generations<Route: Hashable & Sendable, Instance: Hashable & Sendable>: Sendable {
    /// The instances that a route leads to.
    package struct Target: Hashable, Sendable {
        package var current: Instance
        /// Another instance that answers a share of the requests; `nil` for none.
        package var standby: Instance?

        package init(_ current: Instance, standby: Instance? = nil) {
            self.current = current
            self.standby = standby
        }

        fileprivate var instances: [Instance] { [current] + [standby].compactMap { $0 } }
    }

    /// The mapping for new requests.
    package struct Snapshot: Hashable, Sendable {
        /// Counts the start, the reloads that changed routes or instances, and the rollbacks; 0 before the start. A
        /// reload that changes only keys under `node` is not counted.
        package let number: UInt64
        package let routes: [Route: Target]
    }

    /// The generation and the instance of a request.
    package struct Lead: Hashable, Sendable {
        package let generation: UInt64
        package let instance: Instance

        package init(generation: UInt64, instance: Instance) {
            self.generation = generation
            self.instance = instance
        }
    }

    package enum Action: Hashable, Sendable {
        /// No current route uses this instance, but routes that are being unbound still lead to it.
        case drain(Instance)
        /// No route leads to this instance, and none will.
        case release(Instance)
    }

    package private(set) var current = Snapshot(number: 0, routes: [:])
    /// Routes of the next generation that are already bound. Requests may arrive on them before ``publish(_:)``.
    private var prepared: [Route: Instance] = [:]
    /// Routes of former generations that are being unbound. Requests that were accepted before still begin on them.
    private var unbinding: [Route: Instance] = [:]
    /// Instances that no current route uses and that are not released.
    private var retired: Set<Instance> = []

    package init() {}

    /// Records a route of the next generation before it is bound.
    package mutating func prepare(_ route: Route, _ instance: Instance) {
        prepared[route] = instance
    }

    /// Removes a prepared route after it was unbound.
    package mutating func abandon(_ route: Route) {
        prepared[route] = nil
    }

    /// Makes `routes` the mapping for new requests. Routes that are not in it begin to be unbound.
    ///
    /// - Parameter isNewGeneration: `false` if no route and no current instance has changed.
    package mutating func publish(_ routes: [Route: Target], isNewGeneration: Bool = true) -> [Action] {
        prepared = [:]
        for (route, target) in current.routes where routes[route] == nil {
            unbinding[route] = target.current
        }
        let before = Set(current.routes.values.flatMap(\.instances))
        current = Snapshot(number: current.number + (isNewGeneration ? 1 : 0), routes: routes)
        let gone = before.subtracting(routes.values.flatMap(\.instances))
        retired.formUnion(gone)
        return gone.map { unbinding.values.contains($0) ? .drain($0) : release($0) }
    }

    /// Returns the instance for a request on `route`. Returns `nil` if the route is neither current, nor prepared, nor
    /// being unbound.
    ///
    /// - Parameter isForStandby: returns whether the standby answers the request. Called if the route has one.
    package func lead(_ route: Route, isForStandby: () -> Bool = { false }) -> Lead? {
        if let target = current.routes[route] {
            guard let standby = target.standby, isForStandby() else {
                return Lead(generation: current.number, instance: target.current)
            }
            return Lead(generation: current.number, instance: standby)
        }
        if let found = unbinding[route] { return Lead(generation: current.number, instance: found) }
        return prepared[route].map { Lead(generation: current.number + 1, instance: $0) }
    }

    /// Records that a route was unbound: no request will begin on it. It must not be in the current mapping.
    package mutating func left(_ route: Route) -> Action? {
        precondition(current.routes[route] == nil, "a route left before the mapping without it was published")
        guard let instance = unbinding.removeValue(forKey: route), retired.contains(instance),
            !unbinding.values.contains(instance)
        else { return nil }
        return release(instance)
    }

    /// The retired instances that are not released.
    package var draining: Set<Instance> { retired }

    private mutating func release(_ instance: Instance) -> Action {
        retired.remove(instance)
        return .release(instance)
    }
}
