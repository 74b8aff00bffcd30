/// Which instance serves which route, in numbered generations, and which requests still hold which.
///
/// What is current is one immutable value, swapped at once by ``publish(_:)``. A request begins on the generation that is
/// current then and holds it, and with it the instance, until it ends; whatever happens to the routes meanwhile. An
/// instance that no current route names is *retired*: it drains, and is released once the last request that holds it
/// has ended.
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

    /// What a request holds from its beginning to its end.
    package struct Hold: Hashable, Sendable {
        package let generation: UInt64
        package let instance: Instance
    }

    package enum Action: Hashable, Sendable {
        /// No new request will get this instance, but some hold it: give them until the drain deadline.
        case drain(Instance)
        /// Nothing holds this instance any more, and nothing ever will: destroy it.
        case release(Instance)
    }

    package private(set) var current = Snapshot(number: 0, routes: [:])
    /// Routes of the next generation that are bound already: a request may come before the swap.
    private var arriving: [Route: Instance] = [:]
    /// Routes of former generations that are being unbound: requests accepted before still begin on them.
    private var leaving: [Route: Instance] = [:]
    /// Never holds a zero nor an empty dictionary.
    private var requests: [UInt64: [Instance: Int]] = [:]
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
        return gone.map { instance in
            isHeld(instance) ? .drain(instance) : release(instance)
        }
    }

    /// A request begins on `route`; `nil` where that is neither current nor leaving nor arriving.
    package mutating func begin(on route: Route) -> Hold? {
        let generation: UInt64
        let instance: Instance
        if let found = current.routes[route] ?? leaving[route] {
            (generation, instance) = (current.number, found)
        } else if let found = arriving[route] {
            (generation, instance) = (current.number + 1, found)
        } else {
            return nil
        }
        requests[generation, default: [:]][instance, default: 0] += 1
        return Hold(generation: generation, instance: instance)
    }

    /// A request has ended, with everything it opened.
    package mutating func end(_ hold: Hold) -> Action? {
        guard let count = requests[hold.generation]?[hold.instance] else {
            preconditionFailure("a request ended twice")
        }
        requests[hold.generation]?[hold.instance] = count > 1 ? count - 1 : nil
        if requests[hold.generation]?.isEmpty == true { requests[hold.generation] = nil }
        return releaseIfFree(hold.instance)
    }

    /// A leaving route is unbound: no request will begin on it any more.
    package mutating func left(_ route: Route) -> Action? {
        guard let instance = leaving.removeValue(forKey: route) else { return nil }
        return releaseIfFree(instance)
    }

    /// How many requests hold each generation, without those nobody holds.
    package var requestsByGeneration: [UInt64: Int] {
        requests.mapValues { $0.values.reduce(0, +) }
    }

    /// How many requests hold `instance`.
    package func requests(holding instance: Instance) -> Int {
        requests.values.reduce(0) { $0 + ($1[instance] ?? 0) }
    }

    /// Instances that drain.
    package var draining: Set<Instance> { retired }

    private mutating func releaseIfFree(_ instance: Instance) -> Action? {
        guard retired.contains(instance), !isHeld(instance) else { return nil }
        return release(instance)
    }

    private mutating func release(_ instance: Instance) -> Action {
        retired.remove(instance)
        return .release(instance)
    }

    private func isHeld(_ instance: Instance) -> Bool {
        leaving.values.contains(instance) || requests.values.contains { $0[instance] != nil }
    }
}
