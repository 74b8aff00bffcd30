internal import HostConfiguration
internal import Logging

extension PluginHost {
    /// The end of an attempt to apply a configuration.
    struct Applied {
        var result: TransactionResult
        var plan: ReloadPlan<RouteOptions>
        /// The drop-ins that cannot be served. They do not refuse the rest.
        var rejected: [String: RejectedDropIn]
        /// The names of removed drop-ins whose routes are still served.
        var kept: Set<String>
    }

    /// Applies a configuration completely, except for drop-ins that cannot be served: for these the version that runs
    /// goes on. If anything else is wrong, applies nothing.
    ///
    /// - Parameter dryRun: undo everything in any case.
    func apply(
        _ configuration: HostConfiguration, _ preparation: Preparation, dryRun: Bool = false
    ) async -> Applied {
        let dropIns = Self.validDropIns(of: configuration)
        var rejected: [String: RejectedDropIn] = [:]
        func reject(_ name: String, _ reasons: [String], isTemporary: Bool) {
            guard let (plugin, routes) = dropIns[name] else { return }
            var rejection =
                rejected[name]
                ?? RejectedDropIn(
                    plugin: plugin, routes: routes, library: preparation.identities[name], reasons: [],
                    isTemporary: true)
            rejection.reasons += reasons
            rejection.isTemporary = rejection.isTemporary && isTemporary
            rejected[name] = rejection
        }
        for problem in preparation.problems {
            reject(problem.plugin, [problem.message], isTemporary: problem.isTemporary)
        }
        let problems = preparation.problems.filter { rejected[$0.plugin] == nil }
        let kept = keptDropIns(configuration)
        // Each turn rejects at least one drop-in more, so the loop ends.
        while true {
            let invalid = configuration.dropIns.filter { $0.content.isInvalid && $0.hasLibrary }.map(\.name)
            let wanted = wanted(
                preparation.routes, rejected: Set(rejected.keys),
                retained: kept.union(rejected.keys).union(invalid).subtracting(Self.ownPlugins(of: configuration)))
            let plan = ReloadPlan(running: routes.map(\.planned), wanted: wanted)
            if plan.isEmpty, problems.isEmpty {
                return Applied(result: .done, plan: plan, rejected: rejected, kept: kept)
            }
            let result = await carryOut(
                plan, wanted: wanted, preparation, problems: problems, dryRun: dryRun)
            guard case .refused(let refusal) = result, refusal.isOnly(about: { dropIns[$0] != nil }) else {
                return Applied(result: result, plan: plan, rejected: rejected, kept: kept)
            }
            for (name, reasons) in refusal.plugins { reject(name, reasons, isTemporary: refusal.isTemporary) }
        }
    }

    private static func validDropIns(
        of configuration: HostConfiguration
    ) -> [String: (HostConfiguration.Plugin, [HostConfiguration.Route])] {
        var result: [String: (HostConfiguration.Plugin, [HostConfiguration.Route])] = [:]
        for case .valid(let plugin, let routes) in configuration.dropIns.map(\.content) {
            result[plugin.name] = (plugin, routes)
        }
        return result
    }

    /// Returns the names of removed drop-ins that `on_remove: keep` keeps.
    private func keptDropIns(_ configuration: HostConfiguration) -> Set<String> {
        guard configuration.dropIn?.onRemove == .keep else { return [] }
        let addresses = Set(configuration.routes.map(\.vAddr))
        let served = routes.map(\.planned).filter { !addresses.contains($0.vAddr) }.map(\.instance.plugin)
        return Set(served).intersection(dropIns.entries.keys)
            .subtracting(configuration.dropIns.filter(\.hasLibrary).map(\.name))
            .subtracting(Self.ownPlugins(of: configuration))
    }

    /// Returns the names of the plugins of the main file and of included files.
    private static func ownPlugins(of configuration: HostConfiguration) -> Set<String> {
        Set(configuration.plugins.map(\.name)).subtracting(validDropIns(of: configuration).keys)
    }

    /// Returns the routes of a configuration, with the running routes in place of those of some drop-ins.
    ///
    /// - Parameters:
    ///   - rejected: the drop-ins whose routes are left out.
    ///   - retained: the drop-ins whose running routes go on.
    private func wanted(
        _ routes: [PlannedRoute<RouteOptions>], rejected: Set<String>, retained: Set<String>
    ) -> [PlannedRoute<RouteOptions>] {
        let wanted = routes.filter { !rejected.contains($0.instance.plugin) }
        let taken = Set(wanted.map(\.vAddr))
        return wanted
            + self.routes.map(\.planned).filter {
                dropIns.contains($0.instance.plugin) && retained.contains($0.instance.plugin)
                    && !taken.contains($0.vAddr)
            }
    }

    /// Records the drop-ins of a configuration that was applied, and logs those whose state has changed.
    func record(_ applied: Applied, _ configuration: HostConfiguration) {
        let serving = Set(routes.map(\.planned.instance.plugin))
        let changed = dropIns.update(configuration, rejected: applied.rejected, kept: applied.kept, at: .now)
        for (name, entry) in changed {
            switch entry.state {
            case .serving, .disabled: break
            case .removed: logger.warning("drop-in '\(name)' was removed; it is served until the host is restarted")
            case .rejected(let reasons):
                let rest = serving.contains(name) ? "; its last version goes on" : ""
                for reason in reasons { logger.error("drop-in '\(name)': \(reason)") }
                logger.error("drop-in '\(name)' rejected\(rest)")
            }
        }
    }
}
