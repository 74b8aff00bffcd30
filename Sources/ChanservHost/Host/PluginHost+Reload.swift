internal import HostConfiguration
internal import Logging

extension PluginHost {
    /// Reads the configuration and the plugins again and applies all changes. If anything is wrong, applies none.
    /// Unchanged routes and instances are not touched, and no dial fails because of a reload.
    ///
    /// Calls that arrive during a reload share the one that follows it.
    ///
    /// - Returns: the changes, or the reasons why there are none. The log contains the same.
    @discardableResult
    public func reload() async -> ReloadOutcome {
        switch machine.requested() {
        case .refuse:
            return .refused(["the host is stopping"], generation: table.generation)
        case .awaitReload(let number):
            return await withCheckedContinuation { waiters[number, default: []].append($0) }
        case .begin(let number):
            let outcome = await reloadOnce()
            await reloadEnded(number, outcome)
            return outcome
        }
    }

    /// Resumes the callers of a reload, and begins the next one if it was requested meanwhile.
    func reloadEnded(_ number: UInt64, _ outcome: ReloadOutcome) async {
        for waiter in waiters.removeValue(forKey: number) ?? [] { waiter.resume(returning: outcome) }
        switch machine.finished() {
        case .rest: break
        case .begin(let next):
            // In a new task, so that callers of the previous reload do not wait for this one.
            Task { await reloadEnded(next, await reloadOnce()) }
        case .stop:
            for waiter in waiters.values.joined() {
                waiter.resume(returning: .refused(["the host is stopping"], generation: table.generation))
            }
            waiters = [:]
            lastReloadEnded.happened()
        }
    }

    private func reloadOnce() async -> ReloadOutcome {
        logger.info("reloading \(file)", metadata: ["generation": "\(table.generation)"])
        if !machine.isStopping { manager?.notifyReloading() }
        await maintainControlSocket()
        let outcome = await readAndApply()
        lastReload = (outcome, .now)
        // The host serves after a refused reload too.
        tellServing(isReady: true)
        warn(outcome.warnings)
        switch outcome.result {
        case .unchanged:
            reloadCounts.unchanged += 1
            let text = outcome.unchangedText
            logger.info("reload: \(text)", metadata: ["generation": "\(outcome.generation)"])
        case .changed:
            reloadCounts.changed += 1
            logger.info("reload: \(outcome.changes)", metadata: ["generation": "\(outcome.generation)"])
        case .refused:
            reloadCounts.refused += 1
            for reason in outcome.reasons { logger.error("reload: \(reason)") }
            logger.error(
                "reload refused; still serving generation \(outcome.generation)",
                metadata: ["generation": "\(outcome.generation)"])
        }
        return outcome
    }

    private func readAndApply() async -> ReloadOutcome {
        guard let startedNode else {
            return .refused(["the host has not started"], generation: table.generation)
        }
        let configuration: HostConfiguration
        do throws(ConfigurationErrors) {
            configuration = try await readConfiguration()
        } catch {
            return .refused(error.errors.map(\.description), generation: table.generation)
        }
        let preparation = await Preparation(
            configuration, running: Set(routes.map(\.planned.instance)), tools: tools)
        let plan = ReloadPlan(running: routes.map(\.planned), wanted: preparation.routes)
        let node = configuration.node.changesTakenOver(since: self.configuration?.node ?? startedNode)
        var outcome: ReloadOutcome
        if plan.isEmpty, preparation.problems.isEmpty {
            outcome = ReloadOutcome(node.isEmpty ? .unchanged : .changed, generation: table.generation)
            outcome.changes = ReloadChanges(plan)
        } else {
            switch await carryOut(plan, preparation) {
            case .refused(let reasons, _):
                outcome = .refused(reasons, generation: table.generation)
            case .done:
                outcome = ReloadOutcome(.changed, generation: table.generation)
                outcome.changes = ReloadChanges(plan)
            }
        }
        let waiting = configuration.node.changesThatNeedARestart(since: startedNode)
        outcome.needRestart = waiting.map(\.key)
        outcome.warnings =
            configuration.warnings.map(\.description) + preparation.warnings
            + waiting.map { "\(file): \($0.warning)" }
            + disabledRoutes.map {
                "route '\($0)' stays drained: run 'chanserv enable \($0)' to serve it again"
            }
        if outcome.result != .refused {
            outcome.changes.node = node
            self.configuration = configuration
        }
        return outcome
    }
}

extension ReloadOutcome {
    static func refused(_ reasons: [String], generation: UInt64) -> Self {
        var outcome = ReloadOutcome(.refused, generation: generation)
        outcome.reasons = reasons
        return outcome
    }
}
