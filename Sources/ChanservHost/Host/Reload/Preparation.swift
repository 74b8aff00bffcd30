internal import HostConfiguration
internal import PluginRuntime

/// A configuration with its libraries read, tried out and loaded. It contains all errors that can be found before
/// instances are created.
struct Preparation: Sendable {
    /// What the host provides for the preparation.
    struct Tools: Sendable {
        var store: PluginStore
        /// chanserv's own executable. Without it libraries are not tried out, and no plugin can run in worker
        /// processes.
        var program: String?
        /// Whether no library is loaded and no instance is created in this process. Needs ``program``.
        var isTrial = false
    }

    /// Whether the code of all recipes is for other processes, see ``Tools/isTrial``.
    let isTrial: Bool
    /// The routes whose libraries were loaded, in the order of the file.
    private(set) var routes: [PlannedRoute<RouteOptions>] = []
    /// The identities of the libraries that could be read, by plugin.
    private(set) var identities: [String: LibraryIdentity] = [:]
    /// The recipes of the instances that these routes need and that do not run yet.
    private(set) var recipes: [InstanceKey: InstanceRecipe] = [:]
    /// The libraries that could not be loaded.
    private(set) var problems: [Problem] = []
    /// Warnings about libraries that are loaded into this process, one line each.
    private(set) var warnings: [String] = []

    /// Loads every plugin of `configuration`. A broken library is an error even if no route uses it.
    ///
    /// - Parameters:
    ///   - running: the instances that already run.
    ///   - leftOut: versions that the routes with these vAddrs do not get.
    ///   - rejected: drop-ins that could not be served before. They are not tried again if nothing has changed.
    init(
        _ configuration: HostConfiguration, running: Set<InstanceKey> = [], leftOut: [String: InstanceKey] = [:],
        rejected: [String: RejectedDropIn] = [:], tools: Tools
    ) async {
        isTrial = tools.isTrial && tools.program != nil
        let routesByPlugin = Dictionary(grouping: configuration.routes, by: \.plugin)
        let results = await withTaskGroup(of: (String, PluginResult).self) { group in
            var results: [String: PluginResult] = [:]
            for (index, plugin) in configuration.plugins.enumerated() {
                if index >= Self.maxConcurrentPlugins, let next = await group.next() { results[next.0] = next.1 }
                let (routes, before) = (routesByPlugin[plugin.name] ?? [], rejected[plugin.name])
                group.addTask {
                    (
                        plugin.name,
                        await Self.prepare(
                            plugin, routes, running: running, leftOut: leftOut, rejected: before, tools)
                    )
                }
            }
            return await group.reduce(into: results) { $0[$1.0] = $1.1 }
        }
        for plugin in configuration.plugins {
            guard let result = results[plugin.name] else { continue }
            identities[plugin.name] = result.identity
            recipes.merge(result.recipes) { first, _ in first }
            problems += result.problems
            warnings += [result.warning].compactMap { $0 }
        }
        for route in configuration.routes {
            guard let key = results[route.plugin]?.instances[route.vAddr] else { continue }
            var options = route.options
            // With a section `access`, a route without `allow` is denied to all.
            if configuration.access != nil, options.access.allow == nil { options.access.allow = [] }
            routes.append(PlannedRoute(vAddr: route.vAddr, instance: key, options: options))
        }
    }

    /// Maximum plugins that are prepared at the same time. With more of them each would get too little processor time to
    /// finish its trial before its timeout. It also bounds the libraries whose bytes are in memory at the same time.
    private static let maxConcurrentPlugins = 8

    /// The preparation of one plugin.
    private struct PluginResult: Sendable {
        /// `nil` if the library could not be read.
        var identity: LibraryIdentity?
        /// The instances of its routes, by vAddr. A route that cannot be served has none.
        var instances: [String: InstanceKey] = [:]
        var recipes: [InstanceKey: InstanceRecipe] = [:]
        var problems: [Problem] = []
        var warning: String?
    }

    /// Reads the library of a plugin, tries it out and loads it. Plugins are prepared in parallel, because a library that
    /// hangs uses its whole timeout.
    ///
    /// - Parameters:
    ///   - routes: the routes of the plugin.
    ///   - rejected: the drop-in of this name that could not be served before.
    private static func prepare(
        _ plugin: HostConfiguration.Plugin, _ routes: [HostConfiguration.Route], running: Set<InstanceKey>,
        leftOut: [String: InstanceKey], rejected: RejectedDropIn?, _ tools: Tools
    ) async -> PluginResult {
        var result = PluginResult()
        var wanted: [(key: InstanceKey, route: HostConfiguration.Route)] = []
        do throws(Problem) {
            let file = try await read(plugin, tools)
            let identity = LibraryIdentity(digest: file.digest.description, needed: file.needed)
            result.identity = identity
            if let rejected, rejected.isSame(plugin, routes, identity) {
                result.problems = rejected.reasons.map { Problem(message: $0, plugin: plugin.name) }
                return result
            }
            if plugin.isolation.isolation == .host, !tools.store.knows(file.digest), let warning = file.warning {
                result.warning = "\(plugin.pathLocation): plugin '\(plugin.name)': \(file.path) \(warning)"
            }
            for route in routes {
                let key = InstanceKey(
                    plugin: plugin.name, digest: identity.digest, needed: identity.needed,
                    config: route.configuration.json,
                    threads: plugin.threads, allowsInline: plugin.allowsInline, isolation: plugin.isolation)
                result.instances[route.vAddr] = key
                if !running.contains(key), leftOut[route.vAddr] != key, !wanted.contains(where: { $0.key == key }) {
                    wanted.append((key, route))
                }
            }
            let code = try await code(of: plugin, file, configurations: wanted.map(\.route.configuration), tools)
            if let code {
                for (key, route) in wanted {
                    result.recipes[key] = InstanceRecipe(
                        key: key, code: code, configuration: route.configuration, route: route)
                }
            }
        } catch {
            result.problems = [error.of(plugin)]
            // Routes without a library cannot be served.
            let failed = Set(wanted.map(\.key))
            result.instances = result.instances.filter { !failed.contains($0.value) }
        }
        return result
    }

    private static func read(
        _ plugin: HostConfiguration.Plugin, _ tools: Tools
    ) async throws(Problem) -> PluginFile {
        do throws(PluginLoadError) {
            // The reader has checked that these are 64 digits.
            return try await tools.store.read(plugin.path, pin: plugin.sha256.flatMap { PluginDigest(hex: $0) })
        } catch {
            throw Problem(error)
        }
    }

    /// The reason why a library could not be loaded.
    struct Problem: Error {
        /// One line for the operator.
        var message: String
        /// Another attempt may succeed, because neither the file nor the library is wrong.
        var isTemporary = false
        /// The name of the plugin.
        var plugin = ""

        fileprivate init(message: String, isTemporary: Bool = false, plugin: String = "") {
            (self.message, self.isTemporary, self.plugin) = (message, isTemporary, plugin)
        }

        fileprivate init(_ error: PluginLoadError) {
            self.init(message: "\(error)", isTemporary: error.code == .outOfResources)
        }

        /// Returns the error with its position in the file.
        fileprivate func of(_ plugin: HostConfiguration.Plugin) -> Problem {
            Problem(
                message: "\(plugin.pathLocation): plugin '\(plugin.name)': \(message)", isTemporary: isTemporary,
                plugin: plugin.name)
        }
    }

    /// Loads a library in a short-lived process.
    private static func tryLoading(
        _ library: ExaminedLibrary, of plugin: HostConfiguration.Plugin, _ program: String
    ) async throws(Problem) {
        let problem = await Preflight(program: program, reportsRefusals: true).problem(
            with: library, plugin: plugin.name, configurations: [], threads: plugin.threads, options: plugin.isolation)
        if let problem { throw Problem(message: problem.text(of: plugin.path), isTemporary: problem.isTemporary) }
    }

    /// Returns the code of a plugin; `nil` if no new instance needs it and it need not be examined.
    private static func code(
        of plugin: HostConfiguration.Plugin, _ file: PluginFile, configurations: [PluginConfiguration], _ tools: Tools
    ) async throws(Problem) -> InstanceRecipe.Code? {
        let needsProcess = plugin.isolation.isolation == .process
        let isLoaded = tools.store.knows(file.digest)
        if configurations.isEmpty, needsProcess || isLoaded { return nil }
        if needsProcess, tools.program == nil {
            throw Problem(message: "this program cannot run plugins in worker processes")
        }
        var examined: ExaminedLibrary?
        if needsProcess || ((plugin.isolation.preflight || tools.isTrial) && tools.program != nil) {
            do throws(ProcessError) { examined = try ExaminedLibrary(file) } catch {
                throw Problem(message: "\(error)", isTemporary: true)
            }
        }
        if let program = tools.program, let examined, plugin.isolation.preflight {
            let preflight = Preflight(program: program)
            let problem = await preflight.problem(
                with: examined, plugin: plugin.name, configurations: configurations, threads: plugin.threads,
                options: plugin.isolation)
            if let problem {
                throw Problem(message: problem.text(of: plugin.path), isTemporary: problem.isTemporary)
            }
        }
        if tools.isTrial, let program = tools.program, let examined {
            if !needsProcess {
                do throws(PluginLoadError) {
                    try tools.store.checkLinkage(of: file)
                } catch {
                    throw Problem(error)
                }
            }
            if !needsProcess, !isLoaded { try await tryLoading(examined, of: plugin, program) }
            return .examined(examined)
        }
        if needsProcess, let examined { return .examined(examined) }
        do throws(PluginLoadError) {
            return .loaded(try await tools.store.load(file))
        } catch {
            throw Problem(error)
        }
    }
}
