extension ConfigurationReader {
    /// Reads the section `drop_in`; `nil` if it is wrong, which is reported.
    mutating func dropInOptions(_ entry: YAMLEntry) -> DropInOptions? {
        var options = DropInOptions()
        let before = problems.count
        let entries = section(entry.value, ConfigurationSchema.dropIn, into: &options)
        if entries["folder"] == nil, problems.count == before {
            report("'drop_in' needs the key 'folder'", at: entry.keyLocation)
        }
        return problems.count == before ? options : nil
    }

    /// Reads the drop-ins. Their errors do not affect the configuration: each is set aside alone. Only a folder that
    /// cannot be read is reported.
    mutating func dropIns(
        _ options: DropInOptions, isolation: IsolationOptions, _ context: inout RouteContext,
        _ files: ConfigurationFiles
    ) -> [DropIn] {
        let names: [String]
        do throws(FileProblem) {
            names = try files.list(options.folder)
        } catch {
            report("the folder of drop-ins \(error.message)", at: ConfigurationLocation(file: options.folder))
            return []
        }
        let pairs = DropInNames(names)
        let misnamed = Set(names.filter { $0.hasSuffix(".yml") }.map { String($0.dropLast(4)) })
        let outer = (problems: problems, folder: folder)
        defer { (problems, folder) = outer }
        folder = options.folder
        context.owners = context.owners.filter { pairs.libraries.contains($0.value) }
        // Drop-ins that are served come first, so that a new one takes no address of them.
        let owners = Set(context.owners.values)
        let order = pairs.names.filter(owners.contains) + pairs.names.filter { !owners.contains($0) }
        let dropIns = order.map { name in
            problems = []
            if misnamed.contains(name) {
                report(
                    "this file is not read: rename it to \(quoted("\(name).yaml"))",
                    at: ConfigurationLocation(file: "\(options.folder)/\(name).yml"))
            }
            let content = dropIn(name, pairs, options, isolation: isolation, &context, files)
            let file = "\(options.folder)/\(name).\(pairs.libraries.contains(name) ? "so" : "yaml")"
            // The addresses of a wrong drop-in stay reserved, because the version that runs goes on.
            if problems.isEmpty { context.owners = context.owners.filter { $0.value != name } }
            return DropIn(
                name: name, file: file, hasLibrary: pairs.libraries.contains(name),
                content: problems.isEmpty ? content : .invalid(ConfigurationErrors.sorted(problems)))
        }
        return dropIns.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    }

    /// Reads one drop-in. The result is meaningless if an error was reported.
    private mutating func dropIn(
        _ name: String, _ pairs: DropInNames, _ options: DropInOptions, isolation: IsolationOptions,
        _ context: inout RouteContext, _ files: ConfigurationFiles
    ) -> DropIn.Content {
        let library = "\(options.folder)/\(name).so"
        let yaml = "\(options.folder)/\(name).yaml"
        let hasFile = pairs.configurations.contains(name)
        let place = ConfigurationLocation(file: hasFile ? yaml : library)
        var body = ConfigurationSchema.DropInBody(
            plugin: HostConfiguration.Plugin(
                name: name, path: files.resolve(library), isolation: isolation,
                configuration: PluginConfiguration(YAMLNode(.mapping([]), at: place), folder: folder),
                location: place, pathLocation: ConfigurationLocation(file: library)))
        if hasFile {
            guard let root = dropInFile(yaml, files) else { return .disabled }
            _ = section(root, ConfigurationSchema.dropInBody, into: &body)
            guard body.isEnabled else { return .disabled }
        }
        guard pairs.libraries.contains(name) else {
            report("the library \(quoted(library)) is missing: copy it there, or set 'enabled: false'", at: place)
            return .disabled
        }
        guard hasFile || !options.requireYAML else {
            report("\(quoted(yaml)) is missing, which 'require_yaml' asks for", at: place)
            return .disabled
        }
        if let first = context.pluginPlaces[name] {
            report("duplicate plugin \(quoted(name)) (first: \(first))", at: place)
            return .disabled
        }
        // An address that this drop-in takes is free for others if the drop-in is set aside.
        let addresses = context.addressPlaces
        context.plugins[name] = body.plugin
        defer { context.plugins[name] = nil }
        var routes: [HostConfiguration.Route] = []
        if let list = body.routes {
            routes = self.routes(list, &context, dropIn: name)
        } else {
            let route = HostConfiguration.Route(
                vAddr: name, plugin: name, configuration: body.plugin.configuration, options: context.defaults,
                location: place, vAddrLocation: place)
            if checkAddress(of: route, &context, dropIn: name) { routes = [route] }
        }
        if let problem = files.pluginProblem(body.plugin.path) {
            report("the library \(problem)", at: body.plugin.pathLocation)
        }
        if problems.isEmpty { context.pluginPlaces[name] = place } else { context.addressPlaces = addresses }
        return .valid(body.plugin, routes)
    }

    /// Returns the root of the YAML file of a drop-in; an empty mapping if the file has only comments. Returns `nil` if
    /// it cannot be read, which is reported. A file without a byte is an error: it may be one that is being written.
    private mutating func dropInFile(_ path: String, _ files: ConfigurationFiles) -> YAMLNode? {
        do throws(FileProblem) {
            let bytes = try files.read(path)
            if let problem = files.permissionProblem(path) { throw FileProblem(problem) }
            guard !bytes.isEmpty else { throw FileProblem("this file is empty: remove it, or write {} for no options") }
            let (root, problems) = YAMLReader.read(bytes, file: path, substitution: YAMLSubstitution(folder: folder))
            self.problems += problems
            return root ?? YAMLNode(.mapping([]), at: ConfigurationLocation(file: path))
        } catch {
            report(error.message, at: ConfigurationLocation(file: path))
            return nil
        }
    }
}

/// The names of a drop-in folder that belong to drop-ins.
package struct DropInNames: Sendable, Hashable {
    /// The names with a library `NAME.so`.
    package private(set) var libraries: Set<String> = []
    /// The names with a file `NAME.yaml`.
    package private(set) var configurations: Set<String> = []

    /// - Parameter entries: the names of all files of the folder.
    package init(_ entries: [String]) {
        for entry in entries {
            if let name = Self.name(entry, ending: ".so") { libraries.insert(name) }
            if let name = Self.name(entry, ending: ".yaml") { configurations.insert(name) }
        }
    }

    /// All names, in the order of their bytes.
    package var names: [String] {
        libraries.union(configurations).sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    /// Whether an entry of the folder belongs to a drop-in. Hidden files and the leftovers of editors and package
    /// managers (`x.so~`, `x.so.bak`, `x.so.dpkg-new`, `#x.so#`) have other endings or begin with another character.
    package static func isConsidered(_ entry: String) -> Bool {
        name(entry, ending: ".so") != nil || name(entry, ending: ".yaml") != nil
    }

    private static func name(_ entry: String, ending: String) -> String? {
        guard entry.hasSuffix(ending) else { return nil }
        let name = entry.dropLast(ending.count)
        guard let first = name.utf8.first, isLetterOrDigit(first), name.utf8.count <= longestServiceName,
            name.utf8.allSatisfy({ isLetterOrDigit($0) || "._-".utf8.contains($0) }), !name.contains(".dpkg-"),
            !name.contains(".rpm")
        else { return nil }
        return String(name)
    }

    private static func isLetterOrDigit(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: false
        }
    }
}
