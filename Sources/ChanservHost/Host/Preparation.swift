/// A configuration with its libraries read, tried out and loaded: all that can be found wrong before any instance is made.
struct Preparation: Sendable {
    /// What it takes.
    struct Tools: Sendable {
        var store: PluginStore
        /// chanserv's own executable; without it nothing is tried out, and no plugin can have processes.
        var program: String?
    }

    /// The routes whose libraries could be loaded, in the order of the file.
    private(set) var routes: [PlannedRoute<RouteOptions>] = []
    /// How to make the instances these need and nobody runs yet.
    private(set) var recipes: [InstanceKey: InstanceRecipe] = [:]
    /// What could not be loaded.
    private(set) var problems: [Problem] = []

    /// Loads every plugin of `configuration`, those no route names too: a library that is named and broken is a
    /// mistake whoever uses it.
    ///
    /// - Parameter running: the instances that are there already.
    init(_ configuration: HostConfiguration, running: Set<InstanceKey> = [], tools: Tools) async {
        var files: [String: PluginFile] = [:]
        for plugin in configuration.plugins {
            do throws(PluginLoadError) {
                // The reader has checked that these are 64 digits.
                let pin = plugin.sha256.flatMap { PluginDigest(hex: $0) }
                files[plugin.name] = try await tools.store.read(plugin.path, pin: pin)
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
                plugin: route.plugin, digest: file.digest.description, config: route.configuration.json,
                threads: plugin.threads, allowsInline: plugin.allowsInline, isolation: plugin.isolation)
            routes.append(PlannedRoute(vAddr: route.vAddr, instance: key, options: route.options))
            if !running.contains(key), !(wanted[route.plugin] ?? []).contains(where: { $0.key == key }) {
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
                // Without its instance there is nothing to lead to.
                let lost = Set((wanted[plugin.name] ?? []).map(\.key))
                routes.removeAll { lost.contains($0.instance) }
            case .success(nil), nil: break
            }
        }
    }

    /// How many libraries are tried out at the same time: with all of many, each would get too little of the machine to be
    /// done in its time.
    private static let width = 8

    /// What instances of each plugin are made of. They are tried out at the same time: one that hangs takes as long as it may.
    private static func codes(
        of plugins: [(HostConfiguration.Plugin, PluginFile)], configurations: [String: [PluginConfiguration]],
        _ tools: Tools
    ) async -> [String: Result<InstanceRecipe.Code?, Problem>] {
        await withTaskGroup(of: (String, Result<InstanceRecipe.Code?, Problem>).self) { group in
            var codes: [String: Result<InstanceRecipe.Code?, Problem>] = [:]
            for (index, (plugin, file)) in plugins.enumerated() {
                if index >= width, let (name, code) = await group.next() { codes[name] = code }
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

    /// Why a library could not be loaded.
    struct Problem: Error {
        /// One line.
        var message: String
        /// Neither the file nor the library is wrong: another time it may go well.
        var mayPass = false

        fileprivate init(message: String, mayPass: Bool = false) {
            (self.message, self.mayPass) = (message, mayPass)
        }

        fileprivate init(_ error: PluginLoadError) {
            self.init(message: "\(error)", mayPass: error.code == .outOfResources)
        }

        /// With its place in front.
        fileprivate func of(_ plugin: HostConfiguration.Plugin) -> Problem {
            Problem(message: "\(plugin.pathLocation): plugin '\(plugin.name)': \(message)", mayPass: mayPass)
        }
    }

    /// What instances of a plugin are made of; `nil` where none is needed, and its code is known.
    private static func code(
        of plugin: HostConfiguration.Plugin, _ file: PluginFile, configurations: [PluginConfiguration], _ tools: Tools
    ) async throws(Problem) -> InstanceRecipe.Code? {
        let isOwn = plugin.isolation.isolation == .process
        let isKnown = tools.store.knows(file.digest)
        if configurations.isEmpty, isOwn || isKnown { return nil }
        if isOwn, tools.program == nil { throw Problem(message: "this program has no processes to run plugins in") }
        var examined: ExaminedLibrary?
        if isOwn || (plugin.isolation.preflight && tools.program != nil) {
            do throws(ProcessError) { examined = try ExaminedLibrary(file) } catch {
                throw Problem(message: "\(error)", mayPass: true)
            }
        }
        if let program = tools.program, let examined, plugin.isolation.preflight {
            let preflight = Preflight(program: program)
            let problem = await preflight.problem(
                with: examined, plugin: plugin.name, configurations: configurations, threads: plugin.threads,
                options: plugin.isolation)
            if let problem { throw Problem(message: "\(plugin.path) \(problem.message)", mayPass: problem.mayPass) }
        }
        if isOwn, let examined { return .examined(examined) }
        do throws(PluginLoadError) {
            return .loaded(try await tools.store.load(file))
        } catch {
            throw Problem(error)
        }
    }
}
