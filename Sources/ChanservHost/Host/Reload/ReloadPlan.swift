package import HostConfiguration
package import PluginRuntime

/// Identifies the instance that a route needs. Routes with equal keys share one instance, and a reload keeps an
/// instance whose key is still used.
///
/// An instance belongs to a plugin with its effective config. Routes with the same plugin and config therefore share
/// one; a route whose own `config` changes a value has its own. The path is not part of the key: the same bytes from
/// another path are the same code.
package struct InstanceKey: Hashable, Sendable {
    /// The plugin's name in the configuration.
    package var plugin: String
    /// The SHA-256 of the library's bytes, in hex.
    package var digest: String
    /// The libraries outside of the system folders that the library needs.
    package var needed: [NeededLibrary]
    /// The route's `config` merged over the plugin's, as JSON with sorted keys.
    package var config: String
    /// The number of threads for an instance of a library that blocks.
    package var threads: Int
    /// Whether the host may call the plugin on event loops.
    package var allowsInline: Bool
    /// Where the instance runs, and its limits.
    package var isolation: IsolationOptions

    package init(
        plugin: String, digest: String, needed: [NeededLibrary] = [], config: String,
        threads: Int = HostConfiguration.Plugin.defaultThreads, allowsInline: Bool = true,
        isolation: IsolationOptions = IsolationOptions()
    ) {
        self.plugin = plugin
        self.digest = digest
        self.needed = needed
        self.config = config
        self.threads = threads
        self.allowsInline = allowsInline
        self.isolation = isolation
    }
}

/// A route that runs or that the configuration asks for.
///
/// - `Options`: all other options of the route (timeouts, compression, …).
package struct PlannedRoute<Options: Hashable & Sendable>: Hashable, Sendable {
    package var vAddr: String
    package var instance: InstanceKey
    package var options: Options

    package init(vAddr: String, instance: InstanceKey, options: Options) {
        self.vAddr = vAddr
        self.instance = instance
        self.options = options
    }
}

/// The difference between the running and the wanted routes. An unchanged route or instance is only in the lists of
/// untouched ones.
///
/// Lists of new and kept elements have the order of the new configuration; lists of removed ones have the order of the
/// running one.
package struct ReloadPlan<Options: Hashable & Sendable>: Hashable, Sendable {
    /// Instances to create.
    package private(set) var create: [InstanceKey] = []
    /// Routes to bind.
    package private(set) var add: [PlannedRoute<Options>] = []
    /// Routes with new options and the same instance.
    package private(set) var update: [PlannedRoute<Options>] = []
    /// Routes with a new instance, and perhaps new options. They stay bound.
    package private(set) var repoint: [PlannedRoute<Options>] = []
    /// Routes to unbind.
    package private(set) var remove: [PlannedRoute<Options>] = []
    /// Instances that no route uses any more.
    package private(set) var retire: [InstanceKey] = []
    /// Routes without a change.
    package private(set) var untouchedRoutes: [PlannedRoute<Options>] = []
    /// Instances that stay in use.
    package private(set) var untouchedInstances: [InstanceKey] = []

    /// - Parameters:
    ///   - running: the routes that are served; empty at the start.
    ///   - wanted: the routes of the new configuration, which has no vAddr twice.
    ///   - ready: instances that exist besides those of the running routes.
    package init(
        running: [PlannedRoute<Options>], wanted: [PlannedRoute<Options>], ready: Set<InstanceKey> = []
    ) {
        let before = Dictionary(uniqueKeysWithValues: running.map { ($0.vAddr, $0) })
        let after = Set(wanted.map(\.vAddr))
        for route in wanted {
            switch before[route.vAddr] {
            case nil: add.append(route)
            case route: untouchedRoutes.append(route)
            case let old? where old.instance == route.instance: update.append(route)
            case _?: repoint.append(route)
            }
        }
        remove = running.filter { !after.contains($0.vAddr) }

        let runningInstances = Set(running.map(\.instance)).union(ready)
        let wantedInstances = Set(wanted.map(\.instance))
        for instance in Self.inOrder(wanted) {
            if runningInstances.contains(instance) {
                untouchedInstances.append(instance)
            } else {
                create.append(instance)
            }
        }
        retire = Self.inOrder(running).filter { !wantedInstances.contains($0) }
    }

    /// Whether the plan changes nothing.
    package var isEmpty: Bool {
        create.isEmpty && add.isEmpty && update.isEmpty && repoint.isEmpty && remove.isEmpty && retire.isEmpty
    }

    private static func inOrder(_ routes: [PlannedRoute<Options>]) -> [InstanceKey] {
        var seen: Set<InstanceKey> = []
        return routes.map(\.instance).filter { seen.insert($0).inserted }
    }
}
