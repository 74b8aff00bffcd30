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
        await reload(because: .request)
    }

    /// What a reload was made for.
    enum ReloadCause: Sendable {
        /// An operator asked for it.
        case request
        /// The drop-in folder has changed. Only the drop-ins are read. Rejected drop-ins that are the same as before are
        /// not tried again.
        case folder
    }

    func reload(because cause: ReloadCause) async -> ReloadOutcome {
        switch machine.requested() {
        case .refuse:
            return .refused(["the host is stopping"], generation: table.generation)
        case .awaitReload(let number):
            if cause == .request { nextCause = .request }
            return await withCheckedContinuation { waiters[number, default: []].append($0) }
        case .begin(let number):
            let outcome = await reloadOnce(because: cause)
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
            let cause = nextCause
            nextCause = .folder
            Task { await reloadEnded(next, await reloadOnce(because: cause)) }
        case .stop:
            for waiter in waiters.values.joined() {
                waiter.resume(returning: .refused(["the host is stopping"], generation: table.generation))
            }
            waiters = [:]
            lastReloadEnded.happened()
        }
    }

    private func reloadOnce(because cause: ReloadCause) async -> ReloadOutcome {
        let what =
            switch cause {
            case .request: file
            case .folder: "the drop-ins"
            }
        // A change of the folder is often none of the drop-ins, e.g. a file that was touched.
        let quiet: Logger.Level =
            switch cause {
            case .request: .info
            case .folder: .debug
            }
        logger.log(
            level: quiet, "reloading \(what)", metadata: ["generation": .stringConvertible(table.generation)])
        if !machine.isStopping { manager?.notifyReloading() }
        switch cause {
        case .request: accessLog?.reopen()
        case .folder: break
        }
        await maintainControlSocket()
        let outcome = await readAndApply(because: cause)
        // A change of the folder that changes nothing is no event for operators.
        let isEvent = cause == .request || outcome.result != .unchanged
        if isEvent { lastReload = (outcome, .now) }
        // The host serves after a refused reload too.
        tellServing(isReady: true)
        warn(outcome.warnings)
        switch outcome.result {
        case .unchanged:
            if isEvent { reloadCounts.unchanged += 1 }
            let text = outcome.unchangedText
            logger.log(
                level: quiet, "reload: \(text)", metadata: ["generation": .stringConvertible(outcome.generation)])
        case .changed:
            reloadCounts.changed += 1
            logger.info("reload: \(outcome.changes)", metadata: ["generation": .stringConvertible(outcome.generation)])
        case .refused:
            reloadCounts.refused += 1
            for reason in outcome.reasons { logger.error("reload: \(reason)") }
            logger.error(
                "reload refused; still serving generation \(outcome.generation)",
                metadata: ["generation": .stringConvertible(outcome.generation)])
        }
        return outcome
    }

    /// Examines what a reload would do: reads the configuration and the plugins, and tries new instances out in
    /// short-lived processes. Changes nothing.
    ///
    /// Dry runs wait for each other.
    ///
    /// - Returns: the outcome that a reload would have.
    func dryRunReload() async -> ReloadOutcome {
        let previous = lastDryRun
        let dryRun = Task {
            _ = await previous?.value
            var outcome =
                machine.isStopping
                ? .refused(["the host is stopping"], generation: table.generation)
                : await readAndApply(because: .request, isDryRun: true)
            outcome.dryRun = true
            logger.info("dry run: \(outcome.text)", metadata: ["generation": .stringConvertible(outcome.generation)])
            return outcome
        }
        lastDryRun = dryRun
        return await dryRun.value
    }

    private func readAndApply(because cause: ReloadCause, isDryRun: Bool = false) async -> ReloadOutcome {
        guard let startedNode else {
            return .refused(["the host has not started"], generation: table.generation)
        }
        let configuration: HostConfiguration
        do throws(ConfigurationErrors) {
            configuration =
                switch cause {
                case .request: try await readConfiguration()
                case .folder: try await readConfiguration(dropInsOf: self.configuration)
                }
        } catch {
            return .refused(error.errors.map(\.description), generation: table.generation)
        }
        var tools = tools
        tools.isTrial = isDryRun
        let preparation = await Preparation(
            configuration, running: Set(routes.map(\.planned.instance)),
            rejected: cause == .folder ? dropIns.entries.compactMapValues(\.rejected) : [:], tools: tools)
        let changesLog = configuration.log != self.configuration?.log
        let newLog: OpenedAccessLog
        do throws(ConfigurationError) {
            if isDryRun { try await checkAccessLog(of: configuration) }
            newLog = changesLog && !isDryRun ? try await openAccessLog(of: configuration) : .off
        } catch {
            return .refused([error.description], generation: table.generation)
        }
        let node = configuration.node.changesTakenOver(since: self.configuration?.node ?? startedNode)
        let applied = await apply(configuration, preparation, dryRun: isDryRun)
        var outcome: ReloadOutcome
        switch applied.result {
        case .refused(let refusal):
            outcome = .refused(refusal.reasons, generation: table.generation)
        case .done:
            let isSame = applied.plan.isEmpty && node.isEmpty && !changesLog
            outcome = ReloadOutcome(isSame ? .unchanged : .changed, generation: table.generation)
            outcome.changes = ReloadChanges(applied.plan)
            outcome.rejected = rejections(applied, configuration)
            if !isDryRun {
                record(applied, configuration)
                if configuration.dropIn != self.configuration?.dropIn { watchDropIns(configuration.dropIn) }
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
            if changesLog { outcome.changes.log = ["access"] }
            if !isDryRun {
                self.configuration = configuration
                if changesLog { use(newLog) }
            }
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
