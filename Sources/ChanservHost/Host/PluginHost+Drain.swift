internal import Chanserv
internal import HostConfiguration
internal import Logging

extension PluginHost {
    /// Withdraws a route's vAddr from the mesh, so that clients find another host, and waits for its requests to end.
    /// Cancels the requests that have not ended after the route's `drain` time. The route stays configured but
    /// withdrawn, also after reloads, until ``enable(_:)`` or a restart.
    ///
    /// A second drain of the same route waits for the end of the first. If the route has already drained, it returns at
    /// once.
    ///
    /// - Throws: ``RouteError`` if there is no such route, or the host is stopping.
    public func drain(_ vAddr: String) async throws(RouteError) -> DrainOutcome {
        let task = try beginDrain(vAddr)
        return await task.value
    }

    /// Begins a drain as in ``drain(_:)`` and returns its task. Cancelling the caller does not stop the drain.
    package func beginDrain(_ vAddr: String) throws(RouteError) -> Task<DrainOutcome, Never> {
        let route = try route(vAddr)
        if let drain = drains[route.id] { return drain }
        route.service.disable()
        logger.info(
            "route '\(vAddr)': draining, up to \(ValueGrammar.text(route.planned.options.drain))",
            metadata: ["route": "\(vAddr)"])
        let deadline = ContinuousClock.now + route.planned.options.drain
        let task = Task { await finishDrain(of: route, deadline: deadline) }
        drains[route.id] = task
        tellServing()
        return task
    }

    /// Returns a route to the mesh that was drained, or withdrawn by its error mass, and resets its error mass.
    ///
    /// - Returns: whether the route was withdrawn.
    /// - Throws: ``RouteError`` if there is no such route, or the host is stopping.
    @discardableResult
    public func enable(_ vAddr: String) throws(RouteError) -> Bool {
        let route = try route(vAddr)
        let wasAway = route.service.state != .serving
        route.service.enable()
        // Requests that the drain would cancel continue.
        drains[route.id]?.cancel()
        drains[route.id] = nil
        tellServing()
        if wasAway { logger.info("route '\(vAddr)': enabled", metadata: ["route": "\(vAddr)"]) }
        return wasAway
    }

    /// The vAddrs that are drained or draining, in the order of the file.
    var disabledRoutes: [String] {
        routes.filter { $0.service.state == .disabled }.map(\.planned.vAddr)
    }

    private func finishDrain(of route: RunningRoute, deadline: ContinuousClock.Instant) async -> DrainOutcome {
        let vAddr = route.planned.vAddr
        let isLate = await route.service.waitUntilIdle(until: deadline) > 0
        // There is no suspension between this check and the cancellation: an `enable` that comes later is too late for
        // these requests.
        if Task.isCancelled { return DrainOutcome(result: .givenUp, cancelled: 0) }
        let cancelled = isLate ? route.service.counters.requestsOpen : 0
        if isLate {
            route.service.cancelAll(reason: "the route was drained and its time for that is over")
            let left = await route.service.drain(until: .now)
            if left > 0 {
                logger.warning("route '\(vAddr)': \(left) cancelled requests have not ended")
            }
        }
        // If the route was enabled meanwhile, the entry may belong to a new drain.
        if !Task.isCancelled { drains[route.id] = nil }
        let rest = cancelled > 0 ? ", \(cancelled) requests were cancelled" : ""
        logger.info("route '\(vAddr)': drained\(rest)", metadata: ["route": "\(vAddr)"])
        return DrainOutcome(result: .drained, cancelled: cancelled)
    }

    private func route(_ vAddr: String) throws(RouteError) -> RunningRoute {
        if machine.isStopping { throw RouteError(.stopping, vAddr) }
        guard let route = routes.first(where: { $0.planned.vAddr == vAddr }) else {
            throw RouteError(.unknown(nearest: NearestKey.find(vAddr, among: routes.map(\.planned.vAddr))), vAddr)
        }
        return route
    }
}

/// The outcome of a drain.
public struct DrainOutcome: Sendable, Hashable {
    public enum Result: Sendable, Hashable {
        /// All requests of the route have ended.
        case drained
        /// The route was enabled during the drain, or the host is stopping. Its requests continue.
        case givenUp
    }

    public var result: Result
    /// Requests that had not ended in time and were cancelled, with their sources.
    public var cancelled: Int

    package init(result: Result, cancelled: Int) {
        self.result = result
        self.cancelled = cancelled
    }
}

/// The reason why an operation on a route failed.
public struct RouteError: Error, Sendable, Hashable {
    public enum Reason: Sendable, Hashable {
        /// The route does not exist; `nearest` is the most similar vAddr.
        case unknown(nearest: String?)
        /// The host is stopping.
        case stopping
    }

    public var reason: Reason
    /// The vAddr that the caller asked for.
    public var vAddr: String

    init(_ reason: Reason, _ vAddr: String) {
        self.reason = reason
        self.vAddr = vAddr
    }
}

extension RouteError: CustomStringConvertible {
    public var description: String {
        switch reason {
        case .unknown(let nearest):
            "there is no route \(quoted(vAddr))" + (nearest.map { "; did you mean \(quoted($0))?" } ?? "")
        case .stopping: "the host is stopping"
        }
    }
}
