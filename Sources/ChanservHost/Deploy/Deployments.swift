package import HostConfiguration

/// The probations of a host's routes, and the versions from which routes have returned. ``RouteSet`` carries out its
/// decisions.
package struct Deployments: Sendable {
    package typealias Instant = ContinuousClock.Instant

    /// The probation of one route.
    package struct ProbationRecord: Sendable {
        package fileprivate(set) var probation: Probation
        /// Has the instance to which the route can return.
        package let comparison: VersionComparison
        package let began: Instant
        /// Why the instance of the new version failed; `nil` if it did not.
        fileprivate var failure: String?
    }

    /// A version from which a route has returned.
    package struct RejectedVersion: Sendable {
        package let version: InstanceKey
        package let instance: InstanceID
        package let reason: Probation.Reason
        package let time: Instant
    }

    package private(set) var records: [RouteID: ProbationRecord] = [:]
    /// By vAddr. A rejected version is not served again until its file or configuration changes.
    package private(set) var rejected: [String: RejectedVersion] = [:]

    /// The instances that must exist besides those of the running routes.
    package var standbys: Set<InstanceKey> { Set(records.values.map(\.comparison.standby.key)) }

    package init() {}

    /// Returns the routes with the version that runs in place of a rejected one, and a line for each of them.
    package func resolve(
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
    package mutating func replaced(
        _ route: RouteID, by key: InstanceKey, previous: RunningInstance, _ options: RouteOptions, now: Instant
    ) {
        let good = records[route]?.comparison.standby ?? previous
        records[route] = nil
        guard let duration = options.deploy.probation, key != good.key else { return }
        records[route] = ProbationRecord(
            probation: Probation(duration, options.deploy, errorLimit: options.errorMass.limit, now: now),
            comparison: VersionComparison(with: good, percent: options.deploy.control), began: now)
    }

    /// Changes the terms of a probation. Without a duration it ends, and the new version stays.
    package mutating func reconfigure(_ route: RouteID, _ options: RouteOptions.Deploy) {
        guard let record = records[route] else { return }
        guard let duration = options.probation else { return end(route) }
        records[route]?.probation.reconfigure(until: record.began + duration, options)
        record.comparison.set(percent: options.control)
    }

    /// Ends the probation of a route without a return to the old version.
    package mutating func end(_ route: RouteID) { records[route] = nil }

    /// Forgets the rejected versions that the configuration does not contain any more.
    ///
    /// - Parameters:
    ///   - configured: the routes whose files could be read and loaded.
    ///   - wanted: the routes that run, including those of drop-ins that are wrong at present; empty to forget all.
    package mutating func retainRejected(
        configured: [PlannedRoute<RouteOptions>], wanted: [PlannedRoute<RouteOptions>]
    ) {
        let versions = Dictionary(uniqueKeysWithValues: configured.map { ($0.vAddr, $0.instance) })
        let running = Set(wanted.map(\.vAddr))
        rejected = rejected.filter { vAddr, rejected in
            running.contains(vAddr) && versions[vAddr].map { $0 == rejected.version } ?? true
        }
    }

    /// Ends the probation of a route with a return to the old version.
    ///
    /// - Returns: the old version; `nil` if the route has no probation.
    package mutating func rollBack(
        _ route: RouteID, _ planned: PlannedRoute<RouteOptions>, _ instance: InstanceID,
        because reason: Probation.Reason, now: Instant
    ) -> InstanceKey? {
        guard let record = records.removeValue(forKey: route) else { return nil }
        rejected[planned.vAddr] = RejectedVersion(
            version: planned.instance, instance: instance, reason: reason, time: now)
        return record.comparison.standby.key
    }

    /// Records that the instance of the new version of a route failed. The next ``judge(_:now:)`` uses it.
    package mutating func failed(_ route: RouteID, _ reason: String) {
        records[route]?.failure = reason
    }

    /// Judges the new version of a route.
    package mutating func judge(_ route: RouteID, now: Instant) -> Probation.Action {
        guard var record = records[route] else { return .doNothing }
        defer { records[route] = record }
        if let failure = record.failure { return record.probation.instanceFailed(failure) }
        return record.probation.tick(
            now: now, new: record.comparison.new.tally, old: record.comparison.old.tally)
    }
}
