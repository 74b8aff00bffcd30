internal import HostConfiguration

/// Decides which routes of a configuration are to run. Errors of drop-ins do not refuse the rest: the version of such a
/// drop-in that runs goes on.
struct RouteSelection: Sendable {
    private let configured: [PlannedRoute<RouteOptions>]
    private let running: [PlannedRoute<RouteOptions>]
    private let identities: [String: LibraryIdentity]
    /// The readable drop-ins, by name.
    private let dropIns: [String: (plugin: HostConfiguration.Plugin, routes: [HostConfiguration.Route])]
    /// The drop-ins that run or ran before.
    private let known: Set<String>
    /// The names of the plugins of the main file and of included files.
    private let ownPlugins: Set<String>
    /// The drop-ins that have a library and an invalid YAML file.
    private let invalid: Set<String>

    /// The drop-ins that cannot be served. They do not refuse the rest.
    private(set) var rejected: [String: RejectedDropIn] = [:]
    /// The names of removed drop-ins whose routes are still served, because of `on_remove: keep`.
    let kept: Set<String>
    /// The libraries that could not be loaded and are not of drop-ins.
    private(set) var problems: [Preparation.Problem] = []

    /// - Parameters:
    ///   - running: the routes that run.
    ///   - known: the drop-ins before this configuration.
    init(
        _ configuration: HostConfiguration, _ preparation: Preparation, running: [PlannedRoute<RouteOptions>],
        known: DropInTable
    ) {
        configured = preparation.routes
        identities = preparation.identities
        self.running = running
        self.known = Set(known.entries.keys)
        var dropIns: [String: (plugin: HostConfiguration.Plugin, routes: [HostConfiguration.Route])] = [:]
        for case .valid(let plugin, let routes) in configuration.dropIns.map(\.content) {
            dropIns[plugin.name] = (plugin, routes)
        }
        self.dropIns = dropIns
        ownPlugins = Set(configuration.plugins.map(\.name)).subtracting(dropIns.keys)
        invalid = Set(configuration.dropIns.filter { $0.content.isInvalid && $0.hasLibrary }.map(\.name))
        if configuration.dropIn?.onRemove == .keep {
            let addresses = Set(configuration.routes.map(\.vAddr))
            let served = running.filter { !addresses.contains($0.vAddr) }.map(\.instance.plugin)
            kept = Set(served).intersection(self.known)
                .subtracting(configuration.dropIns.filter(\.hasLibrary).map(\.name)).subtracting(ownPlugins)
        } else {
            kept = []
        }
        for problem in preparation.problems {
            if dropIns[problem.plugin] != nil {
                reject(problem.plugin, [problem.message], isTemporary: problem.isTemporary)
            } else {
                problems.append(problem)
            }
        }
    }

    /// The routes to run: those of the configuration, with the running routes in place of those of some drop-ins.
    var wanted: [PlannedRoute<RouteOptions>] {
        let retained = kept.union(rejected.keys).union(invalid).subtracting(ownPlugins)
        let accepted = configured.filter { rejected[$0.instance.plugin] == nil }
        let taken = Set(accepted.map(\.vAddr))
        return accepted
            + running.filter {
                known.contains($0.instance.plugin) && retained.contains($0.instance.plugin)
                    && !taken.contains($0.vAddr)
            }
    }

    /// Rejects the drop-ins because of which the wanted routes were refused.
    ///
    /// - Returns: `false` if there is another reason too. Then another attempt would be refused again.
    mutating func reject(_ refusal: TransactionResult.Refusal) -> Bool {
        guard refusal.isOnly(about: { dropIns[$0] != nil }) else { return false }
        for (name, reasons) in refusal.plugins { reject(name, reasons, isTemporary: refusal.isTemporary) }
        return true
    }

    private mutating func reject(_ name: String, _ reasons: [String], isTemporary: Bool) {
        guard let (plugin, routes) = dropIns[name] else { return }
        var rejection =
            rejected[name]
            ?? RejectedDropIn(
                plugin: plugin, routes: routes, library: identities[name], reasons: [], isTemporary: true)
        rejection.reasons += reasons
        rejection.isTemporary = rejection.isTemporary && isTemporary
        rejected[name] = rejection
    }
}
