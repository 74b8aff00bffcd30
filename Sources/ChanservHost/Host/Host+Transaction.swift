internal import Chanserv
internal import Logging

extension Host {
    /// How a transaction ended.
    enum TransactionResult {
        case done
        /// Nothing was changed; `mayPass`: another time it may go well, for neither the file nor a plugin is wrong.
        case refused([String], mayPass: Bool)
    }

    /// What a transaction has made, to be taken over or undone.
    private struct Made {
        var instances: [InstanceKey: RunningInstance] = [:]
        var routes: [String: RunningRoute] = [:]
    }

    /// Carries out `plan`, or leaves everything as it is. Where something could not be loaded, the rest is only tried,
    /// so that all the reasons are known.
    ///
    /// - Parameter dryRun: only try it in any case.
    func carryOut(
        _ plan: ReloadPlan<RouteOptions>, _ preparation: Preparation, dryRun: Bool = false
    ) async -> TransactionResult {
        var transaction = ReloadTransaction(
            create: plan.create, bind: plan.add.map(\.vAddr), dryRun: dryRun || !preparation.problems.isEmpty)
        let added = Dictionary(uniqueKeysWithValues: plan.add.map { ($0.vAddr, $0) })
        var made = Made()
        var mayPass = preparation.problems.allSatisfy(\.mayPass)
        var action = transaction.start()
        while true {
            if machine.isStopping, action.isForward { action = transaction.abandon("the host is stopping") }
            switch action {
            case .create(let key):
                switch await make(preparation.recipes[key]) {
                case .success(let instance):
                    made.instances[key] = instance
                    action = transaction.succeeded()
                case .failure(let refusal):
                    mayPass = mayPass && refusal.mayPass
                    action = transaction.failed(refusal.reason)
                }
            case .bind(let vAddr):
                do {
                    made.routes[vAddr] = try bind(added[vAddr], made.instances)
                    action = transaction.succeeded()
                } catch {
                    action = transaction.failed("route '\(vAddr)': \(error)")
                }
            case .commit:
                commit(plan, wanted: preparation.routes, made)
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
                guard !preparation.problems.isEmpty else { return .done }
                return .refused(preparation.problems.map(\.message), mayPass: mayPass)
            case .refuse(let reasons):
                return .refused(preparation.problems.map(\.message) + reasons, mayPass: mayPass)
            }
        }
    }

    private func make(_ recipe: InstanceRecipe?) async -> Result<RunningInstance, InstanceRecipe.Refusal> {
        guard let recipe else { preconditionFailure("a plan names an instance nobody knows how to make") }
        let id = nextID()
        let surroundings = InstanceRecipe.Surroundings(
            threads: threads, logger: logger, program: program,
            onCrash: { [weak self] reason in Task { await self?.instanceFailed(id, reason, isOver: false) } },
            onStuck: { [weak self] reason in Task { await self?.instanceFailed(id, reason, isOver: true) } })
        do throws(InstanceRecipe.Refusal) {
            let plugin = try await recipe.make(surroundings)
            return .success(RunningInstance(id: id, key: recipe.key, plugin: plugin))
        } catch {
            return .failure(error)
        }
    }

    /// An instance failed by itself, outside of any request: that counts for each of its routes.
    ///
    /// - Parameter isOver: whether its routes are withdrawn at once rather than after a number of failures.
    private func instanceFailed(_ id: InstanceID, _ reason: String, isOver: Bool) {
        let error = ChanservError(.sourceFailed, reason)
        for route in routes where instances[route.planned.instance]?.id == id {
            if isOver { route.service.withdraw(because: error) } else { route.service.reportFailure(error) }
        }
    }

    /// Binds a new route; whoever dials it before the swap is served by what it will be.
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

    /// Swaps. There is no suspension in here: nobody sees half of it.
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
            Dictionary(uniqueKeysWithValues: routes.map { ($0.id, serving($0.planned.instance)) }))

        let repointed = Set(plan.repoint.map(\.vAddr))
        let touched = repointed.union(plan.update.map(\.vAddr))
        for route in routes where touched.contains(route.planned.vAddr) {
            route.service.update(
                configuration: Server.Configuration(route.planned.options, log: route.log),
                handler: table.handler(for: route.id, options: route.planned.options),
                // What failed was the instance before.
                forgivesFailures: repointed.contains(route.planned.vAddr))
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

    /// How long each running instance may drain: as long as the most patient of the routes it serves allows.
    private func drainTimes() -> [InstanceKey: Duration] {
        Dictionary(routes.map { ($0.planned.instance, $0.planned.options.drain) }, uniquingKeysWith: max)
    }

    /// Withdraws a route at once and lets its requests end until `deadline`.
    ///
    /// - Parameter reason: what clients are told whose requests it cuts off.
    func remove(
        _ route: RunningRoute, deadline: ContinuousClock.Instant,
        reason: String = "the route was removed and its time to drain is over"
    ) {
        route.service.stopAccepting()
        leaving[route.id] = Task {
            let left = await route.service.drain(until: deadline, reason: reason)
            if left > 0 {
                logger.warning("route '\(route.planned.vAddr)': \(left) requests ignore that they were cancelled")
            }
            table.left(route.id)
            route.log.detach()
            leaving[route.id] = nil
        }
    }

    /// Destroys an instance that no route names any more when its last request has ended, which is at the latest a
    /// little after `deadline`.
    ///
    /// - Parameter reason: what clients are told whose requests it cuts off; `nil` is that the plugin was replaced.
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
    /// Whether it makes something new, rather than undoing or ending.
    fileprivate var isForward: Bool {
        switch self {
        case .create, .bind, .commit: true
        case .unbind, .destroy, .finish, .refuse: false
        }
    }
}
