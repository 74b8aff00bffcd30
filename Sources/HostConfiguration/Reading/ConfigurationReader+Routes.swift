extension ConfigurationReader {
    /// The parts of the configuration that routes refer to.
    struct RouteContext {
        var plugins: [String: (plugin: HostConfiguration.Plugin, tree: YAMLNode)]
        /// The names of all plugins in the order of the file, including invalid ones.
        var pluginNames: [String]
        var defaults: RouteOptions
        var environment: String?
        var folder: String
    }

    static let routeKeys = ["vaddr", "plugin", "config"] + optionKeys

    /// Reads the `routes` section.
    mutating func routes(_ root: YAMLNode, _ context: RouteContext) -> [HostConfiguration.Route] {
        if case .unusable = root.content { return [] }
        if root.isNull { return [] }
        let elements = attempt { () throws(ConfigurationError) in
            try root.list("a list of routes, each with vaddr and plugin")
        }
        var places: [String: ConfigurationLocation] = [:]
        return (elements ?? []).compactMap { route($0, context, &places) }
    }

    private mutating func route(
        _ node: YAMLNode, _ context: RouteContext, _ places: inout [String: ConfigurationLocation]
    ) -> HostConfiguration.Route? {
        if case .unusable = node.content { return nil }
        guard case .mapping = node.content else {
            report("expected a route with vaddr and plugin, found \(node.found)", at: node.location)
            return nil
        }
        let entries = section(node, "a route", known: Self.routeKeys)
        let options = options(entries, over: context.defaults)
        let vAddr = vAddr(entries, node, context, &places)
        let plugin = plugin(entries, node, context)
        let own = entries["config"].map { pluginConfiguration($0.value) }
        guard let vAddr, let vAddrEntry = entries["vaddr"], let plugin, let named = context.plugins[plugin] else {
            return nil
        }
        // A route without `config` shares its plugin's configuration instead of building an equal one.
        let configuration = own.map { PluginConfiguration(named.tree.merged(with: $0), folder: context.folder) }
        return HostConfiguration.Route(
            vAddr: vAddr, plugin: plugin, configuration: configuration ?? named.plugin.configuration, options: options,
            location: node.location, vAddrLocation: vAddrEntry.value.location)
    }

    private mutating func vAddr(
        _ entries: Entries, _ node: YAMLNode, _ context: RouteContext, _ places: inout [String: ConfigurationLocation]
    ) -> String? {
        guard let entry = entries["vaddr"] else {
            report("the route needs the key 'vaddr'", at: node.location)
            return nil
        }
        let name = value("vaddr", in: entries) { (node) throws(ConfigurationError) in
            try node.serviceName("a virtual address such as files")
        }
        guard let name else { return nil }
        if let first = places[name] {
            report("duplicate vaddr \(quoted(name)) (first: \(first.withinFile))", at: entry.value.location)
            return nil
        }
        places[name] = entry.value.location
        let environment = context.environment.map { "." + $0 } ?? ""
        guard name.utf8.count + environment.utf8.count <= longestServiceName else {
            report(
                "\(quoted(name)) with the environment is longer than \(longestServiceName) bytes",
                at: entry.value.location)
            return nil
        }
        return name
    }

    private mutating func plugin(_ entries: Entries, _ node: YAMLNode, _ context: RouteContext) -> String? {
        guard let entry = entries["plugin"] else {
            report("the route needs the key 'plugin'", at: node.location)
            return nil
        }
        let name = value("plugin", in: entries) { (node) throws(ConfigurationError) in
            try node.string("the name of a plugin")
        }
        guard let name else { return nil }
        guard context.plugins[name] != nil || context.pluginNames.contains(name) else {
            report(
                "no plugin has the name \(quoted(name))" + NearestKey.hint(name, among: context.pluginNames),
                at: entry.value.location)
            return nil
        }
        return name
    }
}
