internal import Logging

/// What an instance is made from.
struct InstanceRecipe: Sendable {
    var key: InstanceKey
    var library: PluginLibrary
    var configuration: PluginConfiguration
    /// The first route that needs it, for messages.
    var route: HostConfiguration.Route
}

/// A configuration with its libraries loaded: all that can be found wrong before any instance is made.
struct Preparation: Sendable {
    /// The routes whose libraries could be loaded, in the order of the file.
    private(set) var routes: [PlannedRoute<RouteOptions>] = []
    /// How to make the instances these need.
    private(set) var recipes: [InstanceKey: InstanceRecipe] = [:]
    /// What could not be loaded, one line each.
    private(set) var problems: [String] = []

    /// Loads every plugin of `configuration`, those no route names too: a library that is named and broken is a
    /// mistake whoever uses it.
    init(_ configuration: HostConfiguration, store: PluginStore) async {
        var libraries: [String: PluginLibrary] = [:]
        for plugin in configuration.plugins {
            do throws(PluginLoadError) {
                // The reader has checked that these are 64 digits.
                let pin = plugin.sha256.flatMap { PluginDigest(hex: $0) }
                libraries[plugin.name] = try await store.load(plugin.path, pin: pin)
            } catch {
                problems.append("\(plugin.pathLocation): plugin '\(plugin.name)': \(error)")
            }
        }
        for route in configuration.routes {
            guard let library = libraries[route.plugin] else { continue }
            let key = InstanceKey(
                plugin: route.plugin, digest: library.digest.description, config: route.configuration.json,
                threads: configuration.plugin(named: route.plugin)?.threads)
            routes.append(PlannedRoute(vAddr: route.vAddr, instance: key, options: route.options))
            if recipes[key] == nil {
                recipes[key] = InstanceRecipe(
                    key: key, library: library, configuration: route.configuration, route: route)
            }
        }
    }
}

extension InstanceRecipe {
    /// Makes the instance.
    ///
    /// - Throws: one line for the operator.
    func make(threads: PluginThreads, logger: Logger) async throws(Refusal) -> PluginInstance {
        var options = PluginInstance.Configuration()
        if let count = key.threads { options.blockingThreads = count }
        do throws(PluginError) {
            return try await PluginInstance.create(
                name: key.plugin, library: library, values: configuration, threads: threads, logger: logger,
                configuration: options)
        } catch {
            // A getter's message knows the place better than the route does.
            let file = route.location.file
            let place = error.message.hasPrefix("\(file):") ? "" : "\(route.location): "
            throw Refusal(reason: "\(place)\(error.message) (plugin '\(key.plugin)', route '\(route.vAddr)')")
        }
    }

    /// Why an instance could not be made.
    struct Refusal: Error {
        var reason: String
    }
}
