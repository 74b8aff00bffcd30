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
        var files: [String: PluginFile] = [:]
        for plugin in configuration.plugins {
            do throws(PluginLoadError) {
                // The reader has checked that these are 64 digits.
                let pin = plugin.sha256.flatMap { PluginDigest(hex: $0) }
                let file = try await tools.store.read(plugin.path, pin: pin)
                let identity = LibraryIdentity(digest: file.digest.description, needed: file.needed)
                identities[plugin.name] = identity
                if let before = rejected[plugin.name], before.isSame(plugin, in: configuration, identity) {
                    problems += before.reasons.map { Problem(message: $0, plugin: plugin.name) }
                    continue
                }
                files[plugin.name] = file
                if plugin.isolation.isolation == .host, !tools.store.knows(file.digest), let warning = file.warning {
                    warnings.append("\(plugin.pathLocation): plugin '\(plugin.name)': \(file.path) \(warning)")
                }
            } catch {
                problems.append(Problem(error).of(plugin))
            }
        }
        var wanted: [String: [(key: InstanceKey, route: HostConfiguration.Route)]] = [:]
        for route in configuration.routes {
            guard let file = files[route.plugin], let plugin = configuration.plugin(named: route.plugin) else {
                continue
            }
            let key = InstanceKey(
                plugin: route.plugin, digest: file.digest.description, needed: file.needed,
                config: route.configuration.json,
                threads: plugin.threads, allowsInline: plugin.allowsInline, isolation: plugin.isolation)
            routes.append(PlannedRoute(vAddr: route.vAddr, instance: key, options: route.options))
            if !running.contains(key), leftOut[route.vAddr] != key,
                !(wanted[route.plugin] ?? []).contains(where: { $0.key == key })
            {
                wanted[route.plugin, default: []].append((key, route))
            }
        }
        let codes = await Self.codes(
            of: configuration.plugins.compactMap { plugin in files[plugin.name].map { (plugin, $0) } },
            configurations: wanted.mapValues { $0.map(\.route.configuration) }, tools)
        for plugin in configuration.plugins {
            switch codes[plugin.name] {
            case .success(let code?):
                for (key, route) in wanted[plugin.name] ?? [] {
                    recipes[key] = InstanceRecipe(
                        key: key, code: code, configuration: route.configuration, route: route)
                }
            case .failure(let problem):
                problems.append(problem.of(plugin))
                // Routes without a library cannot be served.
                let failedKeys = Set((wanted[plugin.name] ?? []).map(\.key))
                routes.removeAll { failedKeys.contains($0.instance) }
            case .success(nil), nil: break
            }
        }
    }

    /// Maximum libraries that are tried out at the same time. With more of them each would get too little processor
    /// time to finish before its timeout.
    private static let maxConcurrentTrials = 8

    /// Returns the code of each plugin. Tries libraries out in parallel, because one that hangs uses its whole timeout.
    private static func codes(
        of plugins: [(HostConfiguration.Plugin, PluginFile)], configurations: [String: [PluginConfiguration]],
        _ tools: Tools
    ) async -> [String: Result<InstanceRecipe.Code?, Problem>] {
        await withTaskGroup(of: (String, Result<InstanceRecipe.Code?, Problem>).self) { group in
            var codes: [String: Result<InstanceRecipe.Code?, Problem>] = [:]
            for (index, (plugin, file)) in plugins.enumerated() {
                if index >= maxConcurrentTrials, let (name, code) = await group.next() { codes[name] = code }
                group.addTask {
                    do throws(Problem) {
                        let code = try await code(
                            of: plugin, file, configurations: configurations[plugin.name] ?? [], tools)
                        return (plugin.name, .success(code))
                    } catch {
                        return (plugin.name, .failure(error))
                    }
                }
            }
            return await group.reduce(into: codes) { $0[$1.0] = $1.1 }
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
