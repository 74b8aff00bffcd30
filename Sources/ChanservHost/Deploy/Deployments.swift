internal import HostConfiguration

/// The probations of a host's routes, and the versions from which routes have returned. ``RouteSet`` carries out its
/// decisions.
struct Deployments: Sendable {
    typealias Instant = ContinuousClock.Instant

    /// The probation of one route.
    struct Trial: Sendable {
        fileprivate(set) var probation: Probation
        /// Has the instance to which the route can return.
        let comparison: VersionComparison
        let began: Instant
        /// Why the new version failed outside of a request; `nil` if it did not.
        fileprivate var failure: String?
    }

    /// A version from which a route has returned.
    struct RejectedVersion: Sendable {
        let version: InstanceKey
        let reason: Probation.Reason
        let time: Instant
    }

    private(set) var trials: [RouteID: Trial] = [:]
    /// By vAddr. A rejected version is not served again until its file or configuration changes.
    private(set) var rejected: [String: RejectedVersion] = [:]

    /// The instances that must exist besides those of the running routes.
    var standbys: Set<InstanceKey> { Set(trials.values.map(\.comparison.standby.key)) }

    /// Returns the routes with the version that runs in place of a rejected one, and a line for each of them.
    func resolve(
        _ wanted: [PlannedRoute<RouteOptions>], running: [PlannedRoute<RouteOptions>]
    ) -> (routes: [PlannedRoute<RouteOptions>], reasons: [String]) {
        let versions = Dictionary(uniqueKeysWithValues: running.map { ($0.vAddr, $0.instance) })
        var (routes, reasons) = (wanted, [String]())
        for (index, route) in wanted.enumerated() {
            guard let rejected = rejected[route.vAddr], rejected.version == route.instance,
                let current = versions[route.vAddr]
            else { continue }
            routes[index].instance = current
            reasons.append(
                "route '\(route.vAddr)' stays at \(current): \(rejected.version) was rolled back "
                    + "(\(rejected.reason)); change the plugin, or run 'chanserv reload --force'")
        }
        return (routes, reasons)
    }

    /// Records that a reload gave a route another instance.
    ///
    /// - Parameters:
    ///   - key: the new version.
    ///   - previous: the version before. If it was on probation itself, the route can return to the one before it.
    mutating func replaced(
        _ route: RouteID, by key: InstanceKey, previous: RunningInstance, _ options: RouteOptions.Deploy, now: Instant
    ) {
        let good = trials[route]?.comparison.standby ?? previous
        trials[route] = nil
        guard let duration = options.probation, key != good.key else { return }
        trials[route] = Trial(
            probation: Probation(duration, options, now: now),
            comparison: VersionComparison(with: good, percent: options.control), began: now)
    }

    /// Ends the probation of a route without a return to the old version.
    mutating func end(_ route: RouteID) { trials[route] = nil }

    /// Forgets the rejected versions that the configuration does not contain any more.
    mutating func retainRejected(in wanted: [PlannedRoute<RouteOptions>]) {
        let versions = Dictionary(uniqueKeysWithValues: wanted.map { ($0.vAddr, $0.instance) })
        rejected = rejected.filter { versions[$0.key] == $0.value.version }
    }

    /// Ends the probation of a route with a return to the old version.
    ///
    /// - Returns: the old version; `nil` if the route has no probation.
    mutating func rollBack(
        _ route: RouteID, _ planned: PlannedRoute<RouteOptions>, because reason: Probation.Reason, now: Instant
    ) -> InstanceKey? {
        guard let trial = trials.removeValue(forKey: route) else { return nil }
        rejected[planned.vAddr] = RejectedVersion(version: planned.instance, reason: reason, time: now)
        return trial.comparison.standby.key
    }

    /// Records that the new version of a route failed outside of a request. The next ``judge(_:now:isWithdrawn:)`` uses
    /// it.
    mutating func failed(_ route: RouteID, _ reason: String) {
        trials[route]?.failure = reason
    }

    /// Judges the new version of a route.
    ///
    /// - Parameter isWithdrawn: whether the error mass has withdrawn the route.
    mutating func judge(_ route: RouteID, now: Instant, isWithdrawn: Bool) -> Probation.Action {
        guard var trial = trials[route] else { return .doNothing }
        defer { trials[route] = trial }
        if let failure = trial.failure { return trial.probation.crashed(failure) }
        return trial.probation.tick(
            now: now, new: trial.comparison.new.tally, old: trial.comparison.old.tally, isWithdrawn: isWithdrawn)
    }
}
