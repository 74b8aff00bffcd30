extension ConfigurationReader {
    /// The parts of the configuration that routes refer to.
    struct RouteContext {
        var plugins: [String: HostConfiguration.Plugin] = [:]
        /// The positions of all plugins, including invalid ones.
        var pluginPlaces: [String: ConfigurationLocation] = [:]
        /// The positions of all virtual addresses.
        var addressPlaces: [String: ConfigurationLocation] = [:]
        /// The drop-ins that serve virtual addresses now, by address. While they are there, no other drop-in gets it.
        var owners: [String: String] = [:]
        var defaults: RouteOptions
        var environment: String?
    }

    /// Reads a section `routes`.
    ///
    /// - Parameter dropIn: the name of the drop-in that the section belongs to, whose routes need no name and no plugin.
    mutating func routes(
        _ root: YAMLNode, _ context: inout RouteContext, dropIn: String? = nil
    ) -> [HostConfiguration.Route] {
        if case .unusable = root.content { return [] }
        if root.isNull { return [] }
        let elements = attempt { () throws(ConfigurationError) in
            try root.list("a list of routes, each with vaddr and plugin")
        }
        return (elements ?? []).compactMap { route($0, &context, dropIn: dropIn) }
    }

    private mutating func route(
        _ node: YAMLNode, _ context: inout RouteContext, dropIn: String?
    ) -> HostConfiguration.Route? {
        if case .unusable = node.content { return nil }
        guard case .mapping = node.content else {
            report("expected a route with vaddr and plugin, found \(node.found)", at: node.location)
            return nil
        }
        let empty = PluginConfiguration(YAMLNode(.mapping([]), at: node.location), folder: folder)
        var route = HostConfiguration.Route(
            vAddr: dropIn ?? "", plugin: dropIn ?? "", configuration: empty, options: context.defaults,
            location: node.location,
            vAddrLocation: node.location)
        let entries = section(node, ConfigurationSchema.route, into: &route)
        for option in ConfigurationSchema.route.options
        where option.isRequired && entries[option.key] == nil && dropIn == nil {
            report("the route needs the key \(quoted(option.key))", at: node.location)
        }
        if let entry = entries["vaddr"] { route.vAddrLocation = entry.value.location }
        if let dropIn, let entry = entries["plugin"], route.plugin != dropIn {
            report("a route of a drop-in leads to its own plugin: remove the key 'plugin'", at: entry.keyLocation)
            return nil
        }
        let isValid = checkAddress(of: route, &context, dropIn: dropIn)
        guard let plugin = plugin(of: route, entries, context, dropIn: dropIn), isValid else { return nil }
        // A route without `config` shares its plugin's configuration instead of building an equal one.
        route.configuration =
            entries["config"] == nil
            ? plugin.configuration
            : PluginConfiguration(
                plugin.configuration.root.merged(with: route.configuration.root), folder: folder)
        return route
    }

    /// Returns whether the virtual address is valid, and reports a duplicate or a long one.
    mutating func checkAddress(
        of route: HostConfiguration.Route, _ context: inout RouteContext, dropIn: String? = nil
    ) -> Bool {
        let name = route.vAddr
        // A missing or wrong one was reported.
        guard !name.isEmpty else { return false }
        if let first = context.addressPlaces[name] {
            let place = first.seen(from: route.vAddrLocation)
            report("duplicate vaddr \(quoted(name)) (first: \(place))", at: route.vAddrLocation)
            return false
        }
        if let dropIn, let owner = context.owners[name], owner != dropIn {
            report("vaddr \(quoted(name)) is served by the drop-in \(quoted(owner))", at: route.vAddrLocation)
            return false
        }
        context.addressPlaces[name] = route.vAddrLocation
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
        of route: HostConfiguration.Route, _ entries: Entries, _ context: RouteContext, dropIn: String?
    ) -> HostConfiguration.Plugin? {
        if let dropIn { return context.plugins[dropIn] }
        guard let entry = entries["plugin"], !route.plugin.isEmpty || entry.value.isEmptyText else { return nil }
        if context.pluginPlaces[route.plugin] == nil {
            // In the order of the files, so that the same file always has the same suggestion.
            let known = context.pluginPlaces.sorted { $0.value < $1.value }.map(\.key)
            report(
                "no plugin has the name \(quoted(route.plugin))" + NearestKey.hint(route.plugin, among: known),
                at: entry.value.location)
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
