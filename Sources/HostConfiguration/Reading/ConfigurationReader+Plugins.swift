extension ConfigurationReader {
    /// Reads the `plugins` section.
    ///
    /// - Parameters:
    ///   - root: the mapping from names to plugins.
    ///   - folder: the absolute folder that relative paths are resolved against.
    ///   - isolation: the isolation options of `defaults`.
    ///   - fileProblem: returns what is wrong with the file at a path, or `nil`.
    /// - Returns: the valid plugins, their configuration trees (routes merge theirs over them), and the names of all
    ///   plugins. The names let a route refer to an invalid plugin without a second error.
    mutating func plugins(
        _ root: YAMLNode, folder: String, isolation: IsolationOptions, fileProblem: (String) -> String?
    ) -> (plugins: [HostConfiguration.Plugin], trees: [YAMLNode], names: [String]) {
        if case .unusable = root.content { return ([], [], []) }
        if root.isNull { return ([], [], []) }
        let entries = attempt { () throws(ConfigurationError) in
            try root.mapping("a mapping from names to plugins")
        }
        var plugins: [HostConfiguration.Plugin] = []
        var trees: [YAMLNode] = []
        for entry in entries ?? [] {
            let key = YAMLNode(.scalar(YAMLScalar(string: entry.key)), at: entry.keyLocation)
            _ = attempt { () throws(ConfigurationError) in try key.serviceName("the name of a plugin") }
            if let (plugin, tree) = plugin(entry, folder: folder, isolation: isolation, fileProblem: fileProblem) {
                plugins.append(plugin)
                trees.append(tree)
            }
        }
        return (plugins, trees, (entries ?? []).map(\.key))
    }

    private mutating func plugin(
        _ entry: YAMLEntry, folder: String, isolation: IsolationOptions, fileProblem: (String) -> String?
    ) -> (plugin: HostConfiguration.Plugin, tree: YAMLNode)? {
        if case .unusable = entry.value.content { return nil }
        let problemsBefore = problems.count
        let entries = section(
            entry.value, "a plugin",
            known: ["path", "sha256", "threads", "inline", "config", "limits"] + Self.isolationKeys)
        let sha256 = value("sha256", in: entries) { (node) throws(ConfigurationError) in try node.sha256() }
        let threads = integer("threads", in: entries, 1...1_024)
        let allowsInline =
            value("inline", in: entries) { (node) throws(ConfigurationError) in try node.boolean() } ?? true
        let isolation = self.isolation(entries, over: isolation)
        let empty = YAMLNode(.mapping([]), at: entry.value.location)
        let configuration = pluginConfiguration(entries["config"]?.value ?? empty)
        guard let pathEntry = entries["path"] else {
            // Not after "expected a mapping": that error already says the same.
            if problems.count == problemsBefore || !entries.isEmpty {
                report("the plugin \(quoted(entry.key)) needs the key 'path'", at: entry.keyLocation)
            }
            return nil
        }
        let path = value("path", in: entries) { (node) throws(ConfigurationError) in
            try node.path(relativeTo: folder)
        }
        guard let path else { return nil }
        if let problem = fileProblem(path) {
            report("the plugin's file \(quoted(path)) \(problem)", at: pathEntry.value.location)
        }
        let plugin = HostConfiguration.Plugin(
            name: entry.key, path: path, sha256: sha256, threads: threads, allowsInline: allowsInline,
            isolation: isolation, configuration: PluginConfiguration(configuration, folder: folder),
            location: entry.keyLocation,
            pathLocation: pathEntry.value.location)
        return (plugin, configuration)
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

extension YAMLNode {
    /// Returns 64 hexadecimal digits in lower case. Reads the text of the scalar, because YAML takes a digest of
    /// decimal digits for an integer.
    fileprivate func sha256() throws(ConfigurationError) -> String {
        let expected = "a SHA-256 of 64 hexadecimal digits"
        guard case .scalar(let scalar) = content, scalar.value != .null else { throw mismatch(expected) }
        guard scalar.text.utf8.count == 64, scalar.text.allSatisfy({ $0.isASCII && $0.isHexDigit }) else {
            throw ConfigurationError("expected \(expected), found \(scalar.quotedText)", at: location)
        }
        return scalar.text.lowercased()
    }
}
