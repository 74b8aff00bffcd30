/// What makes an instance of a plugin the one it is: two entries with equal keys are served by one instance, and an
/// instance whose key is still wanted after a reload is not touched.
///
/// An instance belongs to an *entry* of the configuration: a plugin with its effective config. Routes that name the same
/// plugin and end up with the same config therefore share one; a route whose own `config` changes anything has one of its
/// own. The path is not part of it: the same bytes from another place are the same code.
package struct InstanceKey: Hashable, Sendable {
    /// The plugin's name in the configuration.
    package var plugin: String
    /// The SHA-256 of the library's bytes, in hex.
    package var digest: String
    /// The route's config merged over the plugin's, as JSON with sorted keys.
    package var config: String
    /// How many threads an instance of a library that blocks gets, `nil` for the default.
    package var threads: Int?
    /// Whether it may be called on the network's threads.
    package var allowsInline: Bool
    /// Where and within which bounds it runs.
    package var isolation: IsolationOptions

    package init(
        plugin: String, digest: String, config: String, threads: Int? = nil, allowsInline: Bool = true,
        isolation: IsolationOptions = IsolationOptions()
    ) {
        self.plugin = plugin
        self.digest = digest
        self.config = config
        self.threads = threads
        self.allowsInline = allowsInline
        self.isolation = isolation
    }
}

/// A route as it is or as it should be.
///
/// - `Options`: everything else that can be said about a route (timeouts, compression, …).
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

/// The difference between what runs and what is wanted. Whatever did not change is in no list but the untouched ones.
///
/// All lists are in the order of the configuration that names their elements: the wanted one for what comes or stays, the
/// running one for what goes.
package struct ReloadPlan<Options: Hashable & Sendable>: Hashable, Sendable {
    /// Instances nobody runs yet.
    package private(set) var create: [InstanceKey] = []
    /// Routes to bind.
    package private(set) var add: [PlannedRoute<Options>] = []
    /// Routes whose options changed and whose instance stays.
    package private(set) var update: [PlannedRoute<Options>] = []
    /// Routes that get another instance (and perhaps other options). They stay bound.
    package private(set) var repoint: [PlannedRoute<Options>] = []
    /// Routes to unbind.
    package private(set) var remove: [PlannedRoute<Options>] = []
    /// Instances no route names any more.
    package private(set) var retire: [InstanceKey] = []
    /// Routes that are just as they were.
    package private(set) var untouchedRoutes: [PlannedRoute<Options>] = []
    /// Instances that stay.
    package private(set) var untouchedInstances: [InstanceKey] = []

    /// - Parameters:
    ///   - running: what is served now; empty at the start.
    ///   - wanted: what the new configuration says. A vAddr may be named once (the configuration has checked that).
    package init(running: [PlannedRoute<Options>], wanted: [PlannedRoute<Options>]) {
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

        let runningInstances = Set(running.map(\.instance))
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

    /// Whether there is nothing to do.
    package var isEmpty: Bool {
        create.isEmpty && add.isEmpty && update.isEmpty && repoint.isEmpty && remove.isEmpty && retire.isEmpty
    }

    private static func inOrder(_ routes: [PlannedRoute<Options>]) -> [InstanceKey] {
        var seen: Set<InstanceKey> = []
        return routes.map(\.instance).filter { seen.insert($0).inserted }
    }
}
