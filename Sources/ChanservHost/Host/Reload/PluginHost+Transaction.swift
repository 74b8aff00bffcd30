internal import Chanserv
internal import HostConfiguration
internal import Logging

extension PluginHost {
    /// The result of a transaction.
    enum TransactionResult {
        case done
        /// Nothing was changed.
        case refused(Refusal)
    }

    /// Why nothing was changed.
    struct Refusal {
        /// The reasons, one line each.
        var reasons: [String] = []
        /// Another attempt may succeed, because neither the file nor a plugin is wrong.
        var isTemporary = true
        /// Those of the reasons that are about one instance, by the name of its plugin.
        var plugins: [String: [String]] = [:]

        mutating func add(_ failure: InstanceRecipe.Refusal, of key: InstanceKey) {
            isTemporary = isTemporary && failure.isTemporary
            plugins[key.plugin, default: []].append(failure.reason)
        }

        /// Whether every reason is about an instance of a plugin that satisfies `predicate`.
        func isOnly(about predicate: (String) -> Bool) -> Bool {
            plugins.keys.allSatisfy(predicate) && plugins.values.reduce(0) { $0 + $1.count } == reasons.count
        }
    }

    /// The instances and routes that a transaction has created, to be taken over or undone.
    private struct Made {
        var instances: [InstanceKey: RunningInstance] = [:]
        var routes: [String: RunningRoute] = [:]
    }

    /// Carries out `plan` completely or not at all.
    ///
    /// - Parameters:
    ///   - wanted: the routes that the plan leads to.
    ///   - preparation: has the recipes of the instances that it creates. Those of a trial are created in other
    ///     processes.
    ///   - problems: libraries that could not be loaded. If there is one, the rest is only tried, to find all errors.
    ///   - dryRun: undo everything in any case.
    func carryOut(
        _ plan: ReloadPlan<RouteOptions>, wanted: [PlannedRoute<RouteOptions>],
        _ preparation: Preparation, problems: [Preparation.Problem] = [], dryRun: Bool = false
    ) async -> TransactionResult {
        var transaction = ReloadTransaction(
            create: plan.create, bind: plan.add.map(\.vAddr), dryRun: dryRun || !problems.isEmpty)
        var refusal = Refusal(isTemporary: problems.allSatisfy(\.isTemporary))
        let added = Dictionary(uniqueKeysWithValues: plan.add.map { ($0.vAddr, $0) })
        var made = Made()
        var action = transaction.start()
        while true {
            if machine.isStopping, action.isForward { action = transaction.abandon("the host is stopping") }
            switch action {
            case .create(let key) where preparation.isTrial:
                switch await tryOut(preparation.recipes[key]) {
                case nil: action = transaction.succeeded()
                case let failure?:
                    refusal.add(failure, of: key)
                    action = transaction.failed(failure.reason)
                }
            case .create(let key):
                switch await make(preparation.recipes[key]) {
                case .success(let instance):
                    made.instances[key] = instance
                    action = transaction.succeeded()
                case .failure(let failure):
                    refusal.add(failure, of: key)
                    action = transaction.failed(failure.reason)
                }
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
                if let route = made.routes.removeValue(forKey: vAddr) { await unbind(route) }
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

    private func tryOut(_ recipe: InstanceRecipe?) async -> InstanceRecipe.Refusal? {
        // A dry run does not wait for reloads, so an instance that ran when it began may be gone.
        guard let recipe, let program else {
            return InstanceRecipe.Refusal(
                reason: "a reload has changed the plugins meanwhile: run it again", isTemporary: true)
        }
        return await recipe.refusal(inTrialOf: program)
    }

    private func make(_ handling: InstanceRecipe?) async -> Result<RunningInstance, InstanceRecipe.Refusal> {
        guard let handling else { preconditionFailure("the plan creates an instance without a recipe") }
        let id = nextID()
        let surroundings = InstanceRecipe.Surroundings(
            threads: threads, logger: logger, program: program,
            onCrash: { [weak self] reason in Task { await self?.instanceFailed(id, reason, withdrawsAtOnce: false) } },
            onStuck: { [weak self] reason in Task { await self?.instanceFailed(id, reason, withdrawsAtOnce: true) } })
        do throws(InstanceRecipe.Refusal) {
            let plugin = try await handling.make(surroundings)
            return .success(RunningInstance(id: id, key: handling.key, plugin: plugin))
        } catch {
            return .failure(error)
        }
    }

    /// Records that an instance failed outside of a request, as a failure of each of its routes.
    ///
    /// - Parameter withdrawsAtOnce: whether to withdraw the routes now instead of after the limit of the error mass.
    private func instanceFailed(_ id: InstanceID, _ reason: String, withdrawsAtOnce: Bool) {
        let error = ChanservError(.sourceFailed, reason)
        for route in routes where instances[route.planned.instance]?.id == id {
            if withdrawsAtOnce { route.service.withdraw(because: error) } else { route.service.reportFailure(error) }
        }
    }

    /// Binds a new route. Requests that arrive before the commit are served by its instance.
    private func bind(
        _ planned: PlannedRoute<RouteOptions>?, _ created: [InstanceKey: RunningInstance]
    ) throws -> RunningRoute {
        guard let planned, let network, let instance = created[planned.instance] ?? instances[planned.instance] else {
            preconditionFailure("a plan adds a route without an instance or before the start")
        }
        let id = nextID()
        let log = RouteLog(planned.vAddr, logger: logger)
        table.prepare(id, instance)
        let server = Server(
            multiplexer: network.multiplexer, configuration: Server.Configuration(planned.options, log: log),
            open: table.open)
        do {
            let service = try server.serve(
                planned.vAddr, handler: table.handler(for: id, options: planned.options))
            log.attach(service)
            return RunningRoute(id: id, planned: planned, service: service, log: log)
        } catch {
            table.abandon(id)
            throw error
        }
    }

    /// Undoes a binding of this transaction.
    private func unbind(_ route: RunningRoute) async {
        route.service.stopAccepting()
        await route.service.drain(until: .now)
        table.abandon(route.id)
        route.log.detach()
    }

    /// Applies the plan. There is no suspension inside, so the change is atomic for other callers of the actor.
    private func commit(_ plan: ReloadPlan<RouteOptions>, wanted: [PlannedRoute<RouteOptions>], _ made: Made) {
        let before = Dictionary(uniqueKeysWithValues: routes.map { ($0.planned.vAddr, $0) })
        let drains = drainTimes()
        instances.merge(made.instances) { _, new in new }
        routes = wanted.map { planned in
            guard var route = before[planned.vAddr] ?? made.routes[planned.vAddr] else {
                preconditionFailure("a wanted route is neither running nor new")
            }
            route.planned = planned
            return route
        }
        let gone = table.publish(
            Dictionary(uniqueKeysWithValues: routes.map { ($0.id, RouteTarget(serving($0.planned.instance))) }))

        let repointed = Set(plan.repoint.map(\.vAddr))
        let touched = repointed.union(plan.update.map(\.vAddr))
        for route in routes where touched.contains(route.planned.vAddr) {
            route.service.update(
                configuration: Server.Configuration(route.planned.options, log: route.log),
                handler: table.handler(for: route.id, options: route.planned.options),
                // The failures belong to the previous instance.
                ignoresFailures: repointed.contains(route.planned.vAddr))
        }
        for vAddr in plan.remove.map(\.vAddr) {
            if let route = before[vAddr] { remove(route, deadline: .now + route.planned.options.drain) }
        }
        for key in plan.retire { instances[key] = nil }
        for instance in gone { retire(instance, deadline: .now + (drains[instance.key] ?? .zero)) }
    }

    private func serving(_ key: InstanceKey) -> RunningInstance {
        guard let instance = instances[key] else { preconditionFailure("a route leads to an instance that is gone") }
        return instance
    }

    /// Returns the drain time of each running instance: the longest of its routes.
    private func drainTimes() -> [InstanceKey: Duration] {
        Dictionary(routes.map { ($0.planned.instance, $0.planned.options.drain) }, uniquingKeysWith: max)
    }

    /// Withdraws a route at once and lets its requests end until `deadline`.
    ///
    /// - Parameter reason: the error that clients get whose requests are cancelled.
    func remove(
        _ route: RunningRoute, deadline: ContinuousClock.Instant,
        reason: String = "the route was removed and its time to drain is over"
    ) {
        route.service.stopAccepting()
        leaving[route.id] = Task {
            let left = await route.service.drain(until: deadline, reason: reason)
            if left > 0 {
                logger.warning("route '\(route.planned.vAddr)': \(left) cancelled requests have not ended")
            }
            table.left(route.id)
            route.log.detach()
            leaving[route.id] = nil
        }
    }

    /// Destroys an instance that no current route uses, after its last request has ended. That is shortly after
    /// `deadline` at the latest.
    ///
    /// - Parameter reason: the error that clients get whose requests are cancelled. `nil`: the plugin was replaced.
    func retire(_ instance: RunningInstance, deadline: ContinuousClock.Instant, reason: String? = nil) {
        let task = Task {
            // Routes that are being unbound may still lead requests to it.
            _ = await instance.released.wait(until: deadline)
            let end = await instance.plugin.retire(instance.id, in: table.open, deadline: deadline, reason: reason)
            logger.debug("instance \(instance.key) retired", metadata: ["result": "\(end)"])
            retiring[instance.id] = nil
        }
        retiring[instance.id] = (instance, task)
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
