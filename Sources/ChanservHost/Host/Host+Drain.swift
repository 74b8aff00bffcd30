internal import Chanserv
internal import Logging

extension Host {
    /// Withdraws a route's vAddr from the mesh, so that clients find another host, and lets its requests end; those that
    /// have not by the route's `drain` time are cancelled. The route stays configured, and reloads do not bring it back as
    /// long as it is: ``enable(_:)`` does, and so does a restart.
    ///
    /// Draining a route that drains waits for the same end; a route that has drained has nothing to wait for.
    ///
    /// - Throws: ``RouteError`` where there is no such route, or the host is stopping.
    public func drain(_ vAddr: String) async throws(RouteError) -> DrainOutcome {
        let task = try beginDrain(vAddr)
        return await task.value
    }

    /// As ``drain(_:)``, without waiting for it: the drain goes on whoever waits.
    func beginDrain(_ vAddr: String) throws(RouteError) -> Task<DrainOutcome, Never> {
        let route = try route(vAddr)
        if let drain = drains[route.id] { return drain }
        route.service.withdraw()
        logger.info("route '\(vAddr)': draining, up to \(route.planned.options.drain)", metadata: ["route": "\(vAddr)"])
        let deadline = ContinuousClock.now + route.planned.options.drain
        let task = Task { await finishDrain(of: route, deadline: deadline) }
        drains[route.id] = task
        tellServing()
        return task
    }

    /// Brings a route back that was drained, or withdrawn by its failures, which are forgotten.
    ///
    /// - Returns: whether it was away.
    /// - Throws: ``RouteError`` where there is no such route, or the host is stopping.
    @discardableResult
    public func enable(_ vAddr: String) throws(RouteError) -> Bool {
        let route = try route(vAddr)
        let wasAway = route.service.state != .serving
        route.service.restore()
        // What was to end may go on.
        drains[route.id]?.cancel()
        drains[route.id] = nil
        tellServing()
        if wasAway { logger.info("route '\(vAddr)': enabled", metadata: ["route": "\(vAddr)"]) }
        return wasAway
    }

    /// The vAddrs that were drained and not enabled since, in the order of the file.
    var disabledRoutes: [String] {
        routes.filter { $0.service.state == .disabled }.map(\.planned.vAddr)
    }

    private func finishDrain(of route: RunningRoute, deadline: ContinuousClock.Instant) async -> DrainOutcome {
        let vAddr = route.planned.vAddr
        let isLate = await route.service.waitUntilIdle(until: deadline) > 0
        // There is no suspension between this and the cancelling: an enable came before, or it comes too late.
        if Task.isCancelled { return DrainOutcome(result: .givenUp, cancelled: 0) }
        let cancelled = isLate ? route.service.counters.requestsOpen : 0
        if isLate {
            route.service.cancelAll(reason: "the route was drained and its time for that is over")
            let left = await route.service.drain(until: .now)
            if left > 0 {
                logger.warning("route '\(vAddr)': \(left) requests ignore that they were cancelled")
            }
        }
        // One that was enabled meanwhile may drain again.
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

/// How a drain ended.
public struct DrainOutcome: Sendable, Hashable {
    public enum Result: Sendable, Hashable {
        /// Nothing of the route's runs any more.
        case drained
        /// The route was enabled meanwhile, or the host is stopping: what runs goes on.
        case givenUp
    }

    public var result: Result
    /// How many requests had not ended in time and were cancelled, with their sources.
    public var cancelled: Int
}

/// Why nothing could be done with a route.
public struct RouteError: Error, Sendable, Hashable {
    public enum Reason: Sendable, Hashable {
        /// There is no such route; perhaps the nearest one was meant.
        case unknown(nearest: String?)
        /// The host is stopping, and all its routes with it.
        case stopping
    }

    public var reason: Reason
    /// The one asked for.
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
