extension ConfigurationReader {
    /// The parts of the configuration that routes refer to.
    struct RouteContext {
        var plugins: [String: HostConfiguration.Plugin]
        /// The names of all plugins in the order of the file, including invalid ones.
        var pluginNames: [String]
        var defaults: RouteOptions
        var environment: String?
    }

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
        let empty = PluginConfiguration(YAMLNode(.mapping([]), at: node.location), folder: folder)
        var route = HostConfiguration.Route(
            vAddr: "", plugin: "", configuration: empty, options: context.defaults, location: node.location,
            vAddrLocation: node.location)
        let entries = section(node, ConfigurationSchema.route, into: &route)
        for option in ConfigurationSchema.route.options where option.isRequired && entries[option.key] == nil {
            report("the route needs the key \(quoted(option.key))", at: node.location)
        }
        if let entry = entries["vaddr"] { route.vAddrLocation = entry.value.location }
        let isValid = checkAddress(of: route, context, &places)
        guard let plugin = plugin(of: route, entries, context), isValid else { return nil }
        // A route without `config` shares its plugin's configuration instead of building an equal one.
        route.configuration =
            entries["config"] == nil
            ? plugin.configuration
            : PluginConfiguration(
                plugin.configuration.root.merged(with: route.configuration.root), folder: folder)
        return route
    }

    /// Returns whether the virtual address is valid, and reports a duplicate or a long one.
    private mutating func checkAddress(
        of route: HostConfiguration.Route, _ context: RouteContext, _ places: inout [String: ConfigurationLocation]
    ) -> Bool {
        let name = route.vAddr
        // A missing or wrong one was reported.
        guard !name.isEmpty else { return false }
        if let first = places[name] {
            report("duplicate vaddr \(quoted(name)) (first: \(first.withinFile))", at: route.vAddrLocation)
            return false
        }
        places[name] = route.vAddrLocation
        let environment = context.environment.map { "." + $0 } ?? ""
        guard name.utf8.count + environment.utf8.count <= longestServiceName else {
            report(
                "\(quoted(name)) with the environment is longer than \(longestServiceName) bytes",
                at: route.vAddrLocation)
            return false
        }
        return true
    }

    /// Returns the plugin of a route; `nil` if it is missing, which is reported, or invalid.
    private mutating func plugin(
        of route: HostConfiguration.Route, _ entries: Entries, _ context: RouteContext
    ) -> HostConfiguration.Plugin? {
        guard let entry = entries["plugin"], !route.plugin.isEmpty || entry.value.isEmptyText else { return nil }
        if !context.pluginNames.contains(route.plugin) {
            report(
                "no plugin has the name \(quoted(route.plugin))"
                    + NearestKey.hint(route.plugin, among: context.pluginNames), at: entry.value.location)
        }
        return context.plugins[route.plugin]
    }
}

extension YAMLNode {
    /// Whether the value is the empty text.
    fileprivate var isEmptyText: Bool {
        if case .scalar(let scalar) = content { scalar.value == .string && scalar.text.isEmpty } else { false }
    }
}
