extension ConfigurationReader {
    /// Reads the `plugins` section.
    ///
    /// - Parameters:
    ///   - root: the mapping from names to plugins.
    ///   - isolation: the isolation options of `defaults`.
    ///   - places: the positions of all plugins so far. They let a route refer to an invalid plugin without a second
    ///     error.
    ///   - fileProblem: returns what is wrong with the file at a path, or `nil`.
    /// - Returns: the valid plugins.
    mutating func plugins(
        _ root: YAMLNode, isolation: IsolationOptions, places: inout [String: ConfigurationLocation],
        fileProblem: (String) -> String?
    ) -> [HostConfiguration.Plugin] {
        if case .unusable = root.content { return [] }
        if root.isNull { return [] }
        let entries = attempt { () throws(ConfigurationError) in
            try root.mapping("a mapping from names to plugins")
        }
        var plugins: [HostConfiguration.Plugin] = []
        for entry in entries ?? [] {
            let key = YAMLNode(.scalar(YAMLScalar(string: entry.key)), at: entry.keyLocation)
            _ = attempt { () throws(ConfigurationError) in try key.serviceName("the name of a plugin") }
            if let first = places[entry.key] {
                report("duplicate plugin \(quoted(entry.key)) (first: \(first))", at: entry.keyLocation)
                continue
            }
            places[entry.key] = entry.keyLocation
            if let plugin = plugin(entry, isolation: isolation, fileProblem: fileProblem) { plugins.append(plugin) }
        }
        return plugins
    }

    private mutating func plugin(
        _ entry: YAMLEntry, isolation: IsolationOptions, fileProblem: (String) -> String?
    ) -> HostConfiguration.Plugin? {
        if case .unusable = entry.value.content { return nil }
        let problemsBefore = problems.count
        var plugin = HostConfiguration.Plugin(
            name: entry.key, path: "", isolation: isolation,
            configuration: PluginConfiguration(YAMLNode(.mapping([]), at: entry.value.location), folder: folder),
            location: entry.keyLocation, pathLocation: entry.keyLocation)
        let entries = section(entry.value, ConfigurationSchema.plugin, into: &plugin)
        guard let pathEntry = entries["path"] else {
            // Not after "expected a mapping": that error already says the same.
            if problems.count == problemsBefore || !entries.isEmpty {
                report("the plugin \(quoted(entry.key)) needs the key 'path'", at: entry.keyLocation)
            }
            return nil
        }
        // A wrong path was reported.
        guard !plugin.path.isEmpty else { return nil }
        plugin.pathLocation = pathEntry.value.location
        if let problem = fileProblem(plugin.path) {
            report("the plugin's file \(quoted(plugin.path)) \(problem)", at: plugin.pathLocation)
        }
        return plugin
    }

    /// Returns the mapping under `config:`, or an empty one if it is null or wrong.
    mutating func pluginConfiguration(_ node: YAMLNode) -> YAMLNode {
        let empty = YAMLNode(.mapping([]), at: node.location)
        if case .unusable = node.content { return empty }
        if node.isNull { return empty }
        guard attempt({ () throws(ConfigurationError) in try node.mapping("a mapping with the plugin's keys") }) != nil
        else { return empty }
        if let number = node.firstWithoutJSON() {
            report("expected a finite number, found \(number.found)", at: number.location)
            return empty
        }
        return node
    }
}
