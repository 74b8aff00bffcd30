internal import Chanserv
internal import HostConfiguration
internal import Logging

/// The running routes of a host and the plugin instances that serve them. It carries out the plan of a reload, drains
/// and enables routes, and ends routes and instances.
///
/// Invariants, which hold between any two suspensions:
/// - ``running``, `instances`, `deployments` and the mapping of the serving table belong together. Only ``commit``, the
///   ends of probations and ``tearDown(deadline:drain:)`` change them, each in one step without a suspension.
/// - After ``stopAccepting()`` no creation of an instance begins, and no route is bound or committed. The check of
///   `isStopping` and each of these steps have no suspension in between.
/// - The caller runs at most one ``apply(_:_:problems:isForced:dryRun:)`` at a time that is no dry run, and no probation
///   ends between ``reloadBegins()`` and ``reloadEnded()``. So the versions that a reload has read with
///   ``readyVersions`` exist until its commit, except in ``tearDown(deadline:drain:)``.
package actor RouteSet {
    /// Leads the requests to instances.
    nonisolated let table: ServingTable
    private let factory: InstanceFactory
    private let notifier: ServiceNotifier
    private var logger: Logger
    /// The network on which routes are bound; `nil` before the start.
    private var multiplexer: (any Multiplexer)?

    /// The routes in the order of the file.
    package private(set) var running: [RunningRoute] = []
    /// The instances of the running routes, and those to which routes on probation can return.
    private var instances: [InstanceKey: RunningInstance] = [:]
    private var deployments = Deployments()
    /// The longest drain time of the routes that have led to each instance.
    private var drainTimes: [InstanceID: Duration] = [:]
    /// Judges the versions on probation; `nil` if there are none.
    private var judging: Task<Void, Never>?
    /// Whether a reload is running that is no dry run.
    private var isReloading = false
    /// The removed routes and instances.
    private let departures: Departures
    /// The running drains, by route.
    private var drains: [RouteID: Task<DrainOutcome, Never>] = [:]
    private var isStopping = false
    private var lastID: UInt64 = 0

    init(open: OpenRequests, factory: InstanceFactory, notifier: ServiceNotifier, logger: Logger) {
        table = ServingTable(open: open)
        departures = Departures(from: table)
        self.factory = factory
        self.notifier = notifier
        self.logger = logger
    }

    /// Sets the network on which routes are bound, and the logger of the host.
    func start(on multiplexer: any Multiplexer, logger: Logger) {
        self.multiplexer = multiplexer
        self.logger = logger
    }

    /// The generation of new requests.
    nonisolated var generation: UInt64 { table.generation }

    /// The running routes as values, in the order of the file.
    var planned: [PlannedRoute<RouteOptions>] { running.map(\.planned) }

    /// The versions that a reload need not create.
    var readyVersions: Set<InstanceKey> { Set(instances.keys) }

    /// The versions that a reload leaves out, by vAddr, because routes have returned from them.
    var rejectedVersions: [String: InstanceKey] { deployments.rejected.mapValues(\.version) }

    private func nextID() -> UInt64 {
        lastID += 1
        return lastID
    }

    // MARK: - Transaction

    /// The instances and routes that a transaction has created, to be taken over or undone.
    private struct Made {
        var instances: [InstanceKey: RunningInstance] = [:]
        var routes: [String: RunningRoute] = [:]
    }

    /// Replaces the running routes by `wanted`, completely or not at all.
    ///
    /// - Parameters:
    ///   - preparation: has the recipes of the instances that are created. Those of a trial are created in other
    ///     processes.
    ///   - problems: libraries that could not be loaded. If there is one, the rest is only tried, to find all errors.
    ///   - isForced: whether versions from which routes have returned are served again.
    ///   - dryRun: undo everything in any case.
    func apply(
        _ wanted: [PlannedRoute<RouteOptions>], _ preparation: Preparation, problems: [Preparation.Problem] = [],
        isForced: Bool = false, dryRun: Bool = false
    ) async -> Application {
        let (routes, rolledBack) = isForced ? (wanted, []) : deployments.resolve(wanted, running: planned)
        let plan = ReloadPlan(running: planned, wanted: routes, ready: Set(instances.keys))
        let result =
            plan.isEmpty && problems.isEmpty
            ? .done : await carryOut(plan, wanted: routes, preparation, problems: problems, dryRun: dryRun)
        if case .done = result, !dryRun {
            deployments.retainRejected(configured: preparation.routes, wanted: isForced ? [] : wanted)
        }
        return Application(plan: plan, result: result, rolledBack: rolledBack)
    }

    /// The end of an attempt to replace the running routes.
    struct Application {
        /// The difference to the routes that ran before.
        var plan: ReloadPlan<RouteOptions>
        /// Whether it was applied.
        var result: TransactionResult
        /// The routes that keep their version because the wanted one was rolled back, one line each.
        var rolledBack: [String]
    }

    private func carryOut(
        _ plan: ReloadPlan<RouteOptions>, wanted: [PlannedRoute<RouteOptions>], _ preparation: Preparation,
        problems: [Preparation.Problem], dryRun: Bool
    ) async -> TransactionResult {
        var transaction = ReloadTransaction(
            create: plan.create, bind: plan.add.map(\.vAddr), dryRun: dryRun || !problems.isEmpty)
        var refusal = TransactionResult.Refusal(isTemporary: problems.allSatisfy(\.isTemporary))
        let added = Dictionary(uniqueKeysWithValues: plan.add.map { ($0.vAddr, $0) })
        var made = Made()
        var action = transaction.start()
        while true {
            if isStopping, action.isForward { action = transaction.abandon("the host is stopping") }
            switch action {
            case .create(let keys):
                var (created, failures): ([InstanceKey], [String]) = ([], [])
                let creations = await create(keys, preparation)
                for (key, result) in creations {
                    switch result {
                    case .success(let instance):
                        made.instances[key] = instance
                        created.append(key)
                    case .failure(let failure):
                        refusal.add(failure, of: key)
                        failures.append(failure.reason)
                    }
                }
                if creations.count < keys.count { failures.append("the host is stopping") }
                action = transaction.created(created, failures: failures)
            case .bind(let vAddr):
                do {
                    made.routes[vAddr] = try bind(added[vAddr], made.instances)
                    action = transaction.succeeded()
                } catch {
                    let reason = "route '\(vAddr)': \(error)"
                    if let plugin = added[vAddr]?.instance.plugin {
                        refusal.plugins[plugin, default: []].append(reason)
                    }
                    action = transaction.failed(reason)
                }
            case .commit:
                commit(plan, wanted: wanted, made)
                action = transaction.succeeded()
            case .unbind(let vAddr):
                if let route = made.routes.removeValue(forKey: vAddr) { await route.unbind(from: table) }
                action = transaction.succeeded()
            case .destroy(let key):
                if let instance = made.instances.removeValue(forKey: key) {
                    table.forget(instance)
                    _ = await instance.plugin.retire(
                        instance.id, in: table.open, deadline: .now, reason: "its reload was undone")
                }
                action = transaction.succeeded()
            case .finish:
                guard !problems.isEmpty else { return .done }
                refusal.reasons = problems.map(\.message)
                return .refused(refusal)
            case .refuse(let reasons):
                refusal.reasons = problems.map(\.message) + reasons
                return .refused(refusal)
            }
        }
    }

    private typealias Creation = (key: InstanceKey, result: Result<RunningInstance?, InstanceRecipe.Refusal>)

    /// Maximum instances in other processes that are created at the same time. With more of them each would get too
    /// little processor time to start before its timeout.
    private static let maxConcurrentStarts = 8

    /// Creates instances, first those in other processes, several at a time: 500 processes that start one after the other
    /// take 8 s. Instances in this process are created one after the other, because their code shares this process.
    ///
    /// - Returns: the results in the order of `keys`. If the host begins to stop, the rest is not created and missing.
    private func create(_ keys: [InstanceKey], _ preparation: Preparation) async -> [Creation] {
        let separate = keys.filter { preparation.isTrial || $0.isolation.isolation == .process }
        var results = await withTaskGroup(of: Creation.self) { group in
            var results: [InstanceKey: Creation] = [:]
            for (index, key) in separate.enumerated() {
                if index >= Self.maxConcurrentStarts, let next = await group.next() { results[next.key] = next }
                if isStopping { break }
                let create = creation(of: key, preparation)
                group.addTask { (key, await create()) }
            }
            for await next in group { results[next.key] = next }
            return results
        }
        for key in keys where !preparation.isTrial && key.isolation.isolation == .host && !isStopping {
            results[key] = (key, await creation(of: key, preparation)())
        }
        return keys.compactMap { results[$0] }
    }

    /// Returns a function that creates an instance.
    private func creation(
        of key: InstanceKey, _ preparation: Preparation
    ) -> @Sendable () async -> Result<RunningInstance?, InstanceRecipe.Refusal> {
        let (id, factory, logger) = (nextID(), factory, logger)
        return {
            await factory.create(
                preparation.recipes[key], id: id, isTrial: preparation.isTrial, logger: logger
            ) { [weak self] reason, withdrawsAtOnce in
                Task { await self?.instanceFailed(id, reason, withdrawsAtOnce: withdrawsAtOnce) }
            }
        }
    }

    /// Records that an instance failed outside of a request, as a failure of each of its routes.
    ///
    /// - Parameter withdrawsAtOnce: whether to withdraw the routes now instead of after the limit of the error mass.
    private func instanceFailed(_ id: InstanceID, _ reason: String, withdrawsAtOnce: Bool) {
        for route in running where deployments.records[route.id]?.comparison.standby.id == id {
            log(route, .warning, "the version before, which is ready for a rollback, failed: \(reason)")
        }
        let error = ChanservError(.sourceFailed, reason)
        for route in running where instances[route.planned.instance]?.id == id {
            deployments.failed(route.id, reason)
            if withdrawsAtOnce { route.service.withdraw(because: error) } else { route.service.reportFailure(error) }
        }
    }

    /// Binds a new route. Requests that arrive before the commit are served by its instance.
    private func bind(
        _ planned: PlannedRoute<RouteOptions>?, _ created: [InstanceKey: RunningInstance]
    ) throws -> RunningRoute {
        guard let planned, let multiplexer, let instance = created[planned.instance] ?? instances[planned.instance]
        else {
            preconditionFailure("a plan adds a route without an instance or before the start")
        }
        return try RunningRoute(
            binding: planned, id: nextID(), to: instance, in: table, on: multiplexer, logger: logger)
    }

    /// Applies the plan. There is no suspension inside, so the change is atomic for other callers of the actor.
    private func commit(_ plan: ReloadPlan<RouteOptions>, wanted: [PlannedRoute<RouteOptions>], _ made: Made) {
        let before = Dictionary(uniqueKeysWithValues: running.map { ($0.planned.vAddr, $0) })
        instances.merge(made.instances) { _, new in new }
        running = wanted.map { planned in
            guard var route = before[planned.vAddr] ?? made.routes[planned.vAddr] else {
                preconditionFailure("a wanted route is neither running nor new")
            }
            route.planned = planned
            return route
        }
        func routes(_ planned: [PlannedRoute<RouteOptions>]) -> [RunningRoute] {
            let vAddrs = Set(planned.map(\.vAddr))
            return running.filter { vAddrs.contains($0.planned.vAddr) }
        }
        let (repointed, updated) = (routes(plan.repoint), routes(plan.update))
        let removed = plan.remove.compactMap { before[$0.vAddr] }
        for route in repointed {
            guard let key = before[route.planned.vAddr]?.planned.instance, let previous = instances[key] else {
                preconditionFailure("a repointed route had no instance")
            }
            deployments.replaced(
                route.id, by: route.planned.instance, previous: previous, route.planned.options, now: .now)
            logProbation(of: route)
        }
        for route in updated { deployments.reconfigure(route.id, route.planned.options.deploy) }
        for route in removed { deployments.end(route.id) }
        publish()
        judgeWhileNecessary()

        for route in repointed { update(route, isRepointed: true) }
        for route in updated { update(route, isRepointed: false) }
        for route in removed {
            departures.remove(
                route, deadline: .now + route.planned.options.drain,
                reason: "the route was removed and its time to drain is over", logger: logger)
        }
    }

    /// Gives the service of a route its options. A repointed one forgets its failures, which belong to the previous
    /// instance.
    private func update(_ route: RunningRoute, isRepointed: Bool) {
        route.admission.use(route.planned.options.access)
        route.service.update(
            configuration: Server.Configuration(route.planned.options, log: route.log, route.admission),
            handler: table.handler(for: route.id, options: route.planned.options), ignoresFailures: isRepointed)
    }

    /// Publishes the running routes with their instances to the serving table, and retires the instances that no
    /// running route uses any more. No other function publishes.
    ///
    /// - Parameters:
    ///   - isNewGeneration: `false` if no route and no current instance has changed.
    ///   - deadline: the time at which the open requests of a retired instance are cancelled; `nil`: after the longest
    ///     drain time of the routes that have led to it.
    ///   - reason: see ``Departures/retire(_:deadline:reason:logger:)``.
    private func publish(
        isNewGeneration: Bool = true, deadline: ContinuousClock.Instant? = nil, reason: String? = nil
    ) {
        let mapping = running.map { route in
            guard let instance = instances[route.planned.instance] else {
                preconditionFailure("a route leads to an instance that is gone")
            }
            let target = RouteTarget(instance, comparison: deployments.records[route.id]?.comparison)
            for used in target.all {
                drainTimes[used.id] = max(drainTimes[used.id] ?? .zero, route.planned.options.drain)
            }
            return (route.id, target)
        }
        let gone = table.publish(Dictionary(uniqueKeysWithValues: mapping), isNewGeneration: isNewGeneration)
        let used = Set(planned.map(\.instance)).union(deployments.standbys)
        instances = instances.filter { used.contains($0.key) }
        for instance in gone {
            let drain = drainTimes.removeValue(forKey: instance.id) ?? .zero
            departures.retire(instance, deadline: deadline ?? .now + drain, reason: reason, logger: logger)
        }
    }

    // MARK: - Probation

    /// The time between two judgements.
    private static let judgementInterval = Duration.milliseconds(250)

    /// Keeps probations from ending until ``reloadEnded()``.
    func reloadBegins() { isReloading = true }

    /// Judges the versions on probation, which a reload has kept from ending.
    func reloadEnded() {
        isReloading = false
        judge()
    }

    /// Judges the versions on probation until there are none.
    private func judgeWhileNecessary() {
        guard judging == nil, !deployments.records.isEmpty else { return }
        judging = Task { [weak self] in
            while await self?.judgeAgain() ?? false {
                do { try await Task.sleep(for: Self.judgementInterval) } catch { return }
            }
        }
    }

    /// Judges the versions on probation, unless a reload is running. Returns whether there are any left.
    private func judgeAgain() -> Bool {
        if !isReloading { judge() }
        if deployments.records.isEmpty { judging = nil }
        return judging != nil
    }

    private func judge() {
        guard !isStopping else { return }
        for route in running {
            switch deployments.judge(route.id, now: .now) {
            case .doNothing: break
            case .hold:
                log(
                    route, .warning,
                    "\(route.planned.instance) is held on probation: too few requests to judge it; "
                        + "'chanserv promote' or 'chanserv rollback' ends it")
            case .settle: settle(route, "\(route.planned.instance) has passed its probation")
            case .rollBack(let reason): rollBack(route, because: reason)
            }
        }
    }

    private func settle(_ route: RunningRoute, _ text: String) {
        deployments.end(route.id)
        publish(isNewGeneration: false)
        log(route, .notice, text)
    }

    private func rollBack(_ route: RunningRoute, because reason: Probation.Reason) {
        guard let index = running.firstIndex(where: { $0.id == route.id }),
            let bad = instances[route.planned.instance],
            let version = deployments.rollBack(route.id, route.planned, bad.id, because: reason, now: .now)
        else { return }
        running[index].planned.instance = version
        publish()
        update(running[index], isRepointed: true)
        let level: Logger.Level = reason == .operatorDecision ? .notice : .error
        log(route, level, "rolled back from \(route.planned.instance) to \(version): \(reason)")
    }

    private func logProbation(of route: RunningRoute) {
        guard let record = deployments.records[route.id], let duration = route.planned.options.deploy.probation else {
            return
        }
        let standby = record.comparison.standby.key
        log(
            route, .info,
            "\(route.planned.instance) is on probation for \(ValueGrammar.text(duration)); \(standby) answers "
                + "\(record.comparison.percent) % of the requests")
    }

    private func log(_ route: RunningRoute, _ level: Logger.Level, _ text: String) {
        let vAddr = route.planned.vAddr
        logger.log(level: level, "route '\(vAddr)': \(text)", metadata: ["route": "\(vAddr)"])
    }

    /// Ends the probation of a route by an operator's decision, see ``PluginHost/rollBack(_:)`` and
    /// ``PluginHost/promote(_:)``.
    ///
    /// - Returns: the version that serves the route now.
    func endProbation(of vAddr: String, rollsBack: Bool) throws(RouteError) -> InstanceKey {
        let route = try route(vAddr)
        if isReloading { throw RouteError(.reloading, vAddr) }
        guard let record = deployments.records[route.id] else { throw RouteError(.noProbation, vAddr) }
        guard rollsBack else {
            settle(route, "\(route.planned.instance) was promoted by an operator")
            return route.planned.instance
        }
        rollBack(route, because: .operatorDecision)
        return record.comparison.standby.key
    }

    // MARK: - Drain and enable

    /// Begins a drain, see ``PluginHost/drain(_:)``, and returns its task.
    func beginDrain(_ vAddr: String) throws(RouteError) -> Task<DrainOutcome, Never> {
        let route = try route(vAddr)
        if let drain = drains[route.id] { return drain }
        route.service.disable()
        logger.info(
            "route '\(vAddr)': draining, up to \(ValueGrammar.text(route.planned.options.drain))",
            metadata: ["route": "\(vAddr)"])
        let deadline = ContinuousClock.now + route.planned.options.drain
        let task = Task { await finishDrain(of: route, deadline: deadline) }
        drains[route.id] = task
        notifyServing()
        return task
    }

    /// Enables a route, see ``PluginHost/enable(_:)``.
    func enable(_ vAddr: String) throws(RouteError) -> Bool {
        let route = try route(vAddr)
        let wasAway = route.service.state != .serving
        route.service.enable()
        // Requests that the drain would cancel continue.
        drains[route.id]?.cancel()
        drains[route.id] = nil
        notifyServing()
        if wasAway { logger.info("route '\(vAddr)': enabled", metadata: ["route": "\(vAddr)"]) }
        return wasAway
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
        if isStopping { throw RouteError(.stopping, vAddr) }
        guard let route = running.first(where: { $0.planned.vAddr == vAddr }) else { throw unknown(vAddr) }
        return route
    }

    private func unknown(_ vAddr: String) -> RouteError {
        RouteError(.unknown(nearest: NearestKey.find(vAddr, among: planned.map(\.vAddr))), vAddr)
    }

    // MARK: - Status

    /// A snapshot of the routes and instances.
    var status: RouteSetStatus {
        var seen: Set<InstanceID> = []
        let current = running.compactMap { instances[$0.planned.instance] }.filter { seen.insert($0.id).inserted }
        let standbys = instances.values.filter { !seen.contains($0.id) }.sorted { $0.id < $1.id }
        return RouteSetStatus(
            generation: generation, open: table.open,
            routes: running.map { route in
                let instance = instances[route.planned.instance]?.id ?? 0
                return HostStatus.Route(
                    route, instance: instance, deploy: HostStatus.Deploy(route, instance: instance, deployments))
            },
            current: current, standbys: standbys, draining: departures.instances)
    }

    /// The vAddrs that are drained or draining, in the order of the file.
    var disabledRoutes: [String] {
        running.filter { $0.service.state == .disabled }.map(\.planned.vAddr)
    }

    /// Tells the service manager which routes are served. The actor orders these messages like the changes.
    ///
    /// - Parameter isReady: whether the start or a reload has ended.
    func notifyServing(isReady: Bool = false) {
        let disabled = disabledRoutes
        notifier.serving(planned.map(\.vAddr).filter { !disabled.contains($0) }, drained: disabled, isReady: isReady)
    }

    /// Returns the counters of a route; `nil` if it does not exist any more.
    func counters(of vAddr: String) -> VirtualService.Counters? {
        running.first { $0.planned.vAddr == vAddr }?.service.counters
    }

    /// Returns the open requests of a vAddr, or of all. The open requests of a removed route are included.
    ///
    /// - Parameter vAddr: `nil` for all requests.
    /// - Throws: ``RouteError`` if there is neither such a route nor a request of it.
    func openRequests(of vAddr: String?) throws(RouteError) -> RequestsReport {
        let report = RequestsReport(table.open.requests().filter { vAddr == nil || $0.service.vAddr == vAddr })
        if let vAddr, report.total == 0, !planned.contains(where: { $0.vAddr == vAddr }) { throw unknown(vAddr) }
        return report
    }

    /// Ends an open request. Its client gets an error that names the operator and the reason.
    ///
    /// - Parameters:
    ///   - id: the number of the request, see ``OpenRequest/id``.
    ///   - reason: free text; `nil` for none.
    /// - Returns: the vAddr of the request; `nil` if no request with this number is open.
    func cancelRequest(_ id: UInt64, reason: String?) -> String? {
        let text = "cancelled by the operator" + (reason.map { ": \($0)" } ?? "")
        guard let scope = table.open.request(id: id), table.open.cancel(id: id, reason: text) else { return nil }
        let vAddr = scope.service.vAddr
        logger.info("route '\(vAddr)': request \(id) was \(text)", metadata: ["route": "\(vAddr)"])
        return vAddr
    }

    // MARK: - End

    /// Accepts no new request, and makes a running transaction undo its work.
    func stopAccepting() {
        isStopping = true
        for route in running { route.service.stopAccepting() }
    }

    /// Ends all routes and instances. Cancels the requests that are open at the deadline. Cancelling the waiting task
    /// ends the wait like the deadline.
    ///
    /// - Parameter drain: the drain time of the host, for the log; `nil` if there were no requests to drain.
    func tearDown(deadline: ContinuousClock.Instant, drain: Duration?) async {
        let reason = "the host stopped and its time to drain is over"
        // At the deadline the requests are first counted, and then cancelled with these tasks.
        let later = deadline + .seconds(1)
        let routes = running
        running = []
        deployments = Deployments()
        judging?.cancel()
        // Before the routes are removed: a route without requests leaves the table at once, and the table releases an
        // instance only if its route leaves after it was retired.
        publish(deadline: later, reason: reason)
        for route in routes { departures.remove(route, deadline: later, reason: reason, logger: logger) }
        for drain in drains.values { drain.cancel() }
        drains = [:]

        await departures.wait(until: deadline) { isEarly in
            if let drain { await self.reportCancelled(isEarly: isEarly, drain: drain) }
        }
    }

    /// Logs how many requests the stop cancels.
    ///
    /// - Parameter isEarly: whether the wait for requests ends before its deadline.
    private func reportCancelled(isEarly: Bool, drain: Duration) {
        let count = table.open.countByGeneration.values.reduce(0, +)
        guard count > 0 else { return }
        let reason = isEarly ? "the drain was ended early" : "the drain time of \(ValueGrammar.text(drain)) is over"
        logger.warning("cancelled \(count) open request\(count == 1 ? "" : "s"): \(reason)")
    }
}

extension ReloadTransaction.Action {
    /// Whether the action creates or applies something, instead of undoing or ending.
    fileprivate var isForward: Bool {
        switch self {
        case .create, .bind, .commit: true
        case .unbind, .destroy, .finish, .refuse: false
        }
    }
}
