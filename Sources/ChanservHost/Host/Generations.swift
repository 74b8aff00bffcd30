/// State machine of the routes: which instance serves which route, in numbered generations.
///
/// What is current is one immutable value, swapped at once by ``publish(_:)``. An instance that no current route names is
/// *retired*: it is released when no route leads to it any more. Which requests it still has is a question to the set of open
/// requests.
///
/// - `Route`: identifies a bound route. A vAddr that is removed and added again is another route.
/// - `Instance`: identifies an instance; an instance made again for the same key is another one.
package struct Generations<Route: Hashable & Sendable, Instance: Hashable & Sendable>: Sendable {
    /// What new requests get.
    package struct Snapshot: Hashable, Sendable {
        /// Counts the reloads that changed something; 0 is the empty beginning.
        package let number: UInt64
        package let routes: [Route: Instance]
    }

    /// Where a request is led.
    package struct Lead: Hashable, Sendable {
        package let generation: UInt64
        package let instance: Instance
    }

    package enum Action: Hashable, Sendable {
        /// No current route names this instance, but routes that are being unbound lead to it.
        case drain(Instance)
        /// No route leads to this instance any more, and none ever will.
        case release(Instance)
    }

    package private(set) var current = Snapshot(number: 0, routes: [:])
    /// Routes of the next generation that are bound already: a request may come before the swap.
    private var arriving: [Route: Instance] = [:]
    /// Routes of former generations that are being unbound: requests that were accepted before still begin on them.
    private var leaving: [Route: Instance] = [:]
    /// Instances that no current route names and that were not released yet.
    private var retired: Set<Instance> = []

    package init() {}

    /// `route` is about to be bound and will be of the next generation.
    package mutating func prepare(_ route: Route, _ instance: Instance) {
        arriving[route] = instance
    }

    /// A prepared route will not come, and is not bound any more.
    package mutating func abandon(_ route: Route) {
        arriving[route] = nil
    }

    /// Makes `routes` what new requests get. Routes that are missing there begin to leave.
    package mutating func publish(_ routes: [Route: Instance]) -> [Action] {
        arriving = [:]
        for (route, instance) in current.routes where routes[route] == nil {
            leaving[route] = instance
        }
        let before = Set(current.routes.values)
        current = Snapshot(number: current.number + 1, routes: routes)
        let gone = before.subtracting(routes.values)
        retired.formUnion(gone)
        return gone.map { leaving.values.contains($0) ? .drain($0) : release($0) }
    }

    /// Where a request on `route` is led; `nil` if that is neither current nor leaving nor arriving.
    package func lead(_ route: Route) -> Lead? {
        if let found = current.routes[route] ?? leaving[route] {
            return Lead(generation: current.number, instance: found)
        }
        return arriving[route].map { Lead(generation: current.number + 1, instance: $0) }
    }

    /// A leaving route is unbound: no request will begin on it any more.
    package mutating func left(_ route: Route) -> Action? {
        guard let instance = leaving.removeValue(forKey: route), retired.contains(instance),
            !leaving.values.contains(instance)
        else { return nil }
        return release(instance)
    }

    /// Instances that routes still lead to, and that are to go.
    package var draining: Set<Instance> { retired }

    private mutating func release(_ instance: Instance) -> Action {
        retired.remove(instance)
        return .release(instance)
    }
}
