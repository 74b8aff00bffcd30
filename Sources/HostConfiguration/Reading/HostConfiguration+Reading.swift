internal import Glibc

extension HostConfiguration {
    /// Reads and checks a configuration file. Also checks that the files of the plugins exist.
    ///
    /// Blocks on the file system, so it must not run on an event loop. Errors inside a library are found only when the
    /// host loads it.
    ///
    /// - Parameter file: the path, absolute or relative to the working directory. Messages contain it as it is.
    /// - Throws: ``ConfigurationErrors`` with all errors, not only the first.
    public static func read(_ file: String) throws(ConfigurationErrors) -> HostConfiguration {
        try read(file, dropInOwners: [:])
    }

    /// As ``read(_:)``, for a host that runs.
    ///
    /// - Parameter dropInOwners: the drop-ins that serve virtual addresses now, by address.
    package static func read(
        _ file: String, dropInOwners: [String: String]
    ) throws(ConfigurationErrors) -> HostConfiguration {
        let (bytes, folder) = try contents(of: file)
        let place = ConfigurationLocation(file: file)
        let files = ConfigurationFiles.system
        if let problem = files.access(file).problem(with: file) {
            throw ConfigurationErrors([ConfigurationError(problem, at: place)])
        }
        var configuration = try parse(bytes, file: file, folder: folder, files: files, dropInOwners: dropInOwners)
        if files.access(file) == .group {
            configuration.warnings.append(
                ConfigurationError(
                    "the members of the file's group can write this file, and can thereby run code as the user of the "
                        + "host; if they should not, fix this with: chmod g-w '\(file)'", at: place))
        }
        return configuration
    }

    /// Reads the drop-ins again, with the main file and the included files as they were read for this configuration.
    ///
    /// Blocks on the file system.
    package func rereadingDropIns(owners: [String: String]) throws(ConfigurationErrors) -> HostConfiguration {
        try Self.parse(
            source.main, file: file, folder: folder, files: source.files(over: .system), dropInOwners: owners)
    }

    /// Returns the bytes of a configuration file, and the absolute folder that its relative paths are resolved against.
    static func contents(of file: String) throws(ConfigurationErrors) -> (bytes: [UInt8], folder: String) {
        do throws(FileProblem) {
            return (try readBytes(file, limit: YAMLLimits().fileSize), try absoluteFolder(of: file))
        } catch {
            throw ConfigurationErrors([ConfigurationError(error.message, at: ConfigurationLocation(file: file))])
        }
    }

    /// Checks the text of a configuration file without access to the file system.
    ///
    /// - Parameters:
    ///   - text: the configuration as YAML.
    ///   - file: the name of the file in messages.
    ///   - folder: the absolute folder that relative paths are resolved against.
    /// - Throws: ``ConfigurationErrors`` with all errors, not only the first.
    public static func parse(
        _ text: String, file: String, folder: String
    ) throws(ConfigurationErrors) -> HostConfiguration {
        try parse(Array(text.utf8), file: file, folder: folder, files: ConfigurationFiles())
    }

    /// As ``parse(_:file:folder:)``, with access to the files that the configuration names.
    package static func parse(
        _ bytes: [UInt8], file: String, folder: String, files: ConfigurationFiles,
        dropInOwners: [String: String] = [:]
    ) throws(ConfigurationErrors) -> HostConfiguration {
        let (root, problems) = YAMLReader.read(bytes, file: file, substitution: YAMLSubstitution(folder: folder))
        // A file with a syntax error, or without a document, has no tree to check.
        guard let root else {
            let empty = ConfigurationError(
                "configuration file is empty: add the sections 'plugins' and 'routes' (docs/configuration.md)",
                at: ConfigurationLocation(file: file))
            throw ConfigurationErrors(problems.isEmpty ? [empty] : problems)
        }
        var reader = ConfigurationReader(problems: problems, folder: folder)
        reader.source.main = bytes
        let configuration = reader.host(root, file: file, files: files, dropInOwners: dropInOwners)
        guard reader.problems.isEmpty else { throw ConfigurationErrors(reader.problems) }
        return configuration
    }

    static let rootKeys = ["node", "log", "access", "defaults", "include", "drop_in", "plugins", "routes"]
}

extension ConfigurationReader {
    /// Reads the root of the file.
    fileprivate mutating func host(
        _ root: YAMLNode, file: String, files: ConfigurationFiles, dropInOwners: [String: String]
    ) -> HostConfiguration {
        let entries = entries(root, "the configuration", known: HostConfiguration.rootKeys)
        var node = HostConfiguration.Node()
        let problemsBefore = problems.count
        if let entry = entries["node"] { _ = section(entry.value, ConfigurationSchema.node, into: &node) }
        if problems.count == problemsBefore { listenAddresses = node.listen.map(\.address) }
        var log = HostConfiguration.Log()
        if let entry = entries["log"] { _ = section(entry.value, ConfigurationSchema.log, into: &log) }
        let access = entries["access"].map { accessOptions($0.value) }
        var defaults = (routes: RouteOptions(), plugins: IsolationOptions())
        if let entry = entries["defaults"] { _ = section(entry.value, ConfigurationSchema.defaults, into: &defaults) }
        let parts =
            [ConfigurationPart(folder: folder, plugins: entries["plugins"]?.value, routes: entries["routes"]?.value)]
            + (entries["include"].map { included($0.value, in: file, files) } ?? [])
        var context = RouteContext(
            owners: dropInOwners, defaults: defaults.routes, environment: node.environment)
        var plugins: [HostConfiguration.Plugin] = []
        for part in parts {
            folder = part.folder
            guard let root = part.plugins else { continue }
            let read = self.plugins(
                root, isolation: defaults.plugins, places: &context.pluginPlaces, fileProblem: files.pluginProblem)
            plugins += read
        }
        for plugin in plugins { context.plugins[plugin.name] = plugin }
        var routes: [HostConfiguration.Route] = []
        for part in parts {
            folder = part.folder
            if let root = part.routes { routes += self.routes(root, &context) }
        }
        folder = parts[0].folder
        let dropIn = entries["drop_in"].flatMap { dropInOptions($0) }
        let dropIns = dropIn.map { self.dropIns($0, isolation: defaults.plugins, &context, files) } ?? []
        for case .valid(let plugin, let own) in dropIns.map(\.content) {
            plugins.append(plugin)
            routes += own
        }
        checkRole(node.role, entries["node"]?.value, routes)
        return HostConfiguration(
            file: file, folder: folder, node: node, log: log, access: access, plugins: plugins, routes: routes,
            dropIn: dropIn,
            dropIns: dropIns, source: source,
            warnings: ConfigurationErrors.sorted(
                warnings(
                    node, plugins, routes, dropIn,
                    at: entries["routes"]?.keyLocation ?? ConfigurationLocation(file: file))
                    + accessWarnings(access, node, routes, file: file)))
    }

    private func warnings(
        _ node: HostConfiguration.Node, _ plugins: [HostConfiguration.Plugin], _ routes: [HostConfiguration.Route],
        _ dropIn: DropInOptions?, at routesLocation: ConfigurationLocation
    ) -> [ConfigurationError] {
        let used = Set(routes.map(\.plugin))
        var warnings = plugins.filter { !used.contains($0.name) }.map {
            ConfigurationError("no route uses the plugin \(quoted($0.name))", at: $0.location)
        }
        // A router is useful without routes, and a drop-in may come later.
        if routes.isEmpty, node.role != .router, dropIn == nil {
            warnings.append(ConfigurationError("there are no routes: nothing is served", at: routesLocation))
        }
        return warnings
    }
}

/// The reason why a file could not be read.
package struct FileProblem: Error {
    package var message: String

    package init(_ message: String) { self.message = message }

    init(errno code: Int32) { message = "cannot be read: \(String(cString: strerror(code)))" }
}

/// Returns the bytes of a file, at most `limit + 1` of them. The extra byte lets the reader reject a larger file.
package func readBytes(
    _ file: String, limit: Int, mustBeRegular: Bool = false
) throws(FileProblem) -> [UInt8] {
    guard !file.utf8.contains(0) else { throw FileProblem("the file name contains a zero byte") }
    // Without O_NONBLOCK the open of a pipe waits for a writer.
    let descriptor = open(file.systemString, O_RDONLY | O_CLOEXEC | (mustBeRegular ? O_NONBLOCK : 0))
    guard descriptor >= 0 else { throw FileProblem(errno: errno) }
    defer { close(descriptor) }
    if mustBeRegular {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw FileProblem(errno: errno) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw FileProblem("is not a regular file") }
    }
    var bytes: [UInt8] = []
    // Not `limit + 1` bytes at once: clearing 1 MiB takes longer than reading the file of a drop-in.
    var part = [UInt8](repeating: 0, count: min(limit + 1, 1 << 14))
    while bytes.count <= limit {
        let wanted = min(part.count, limit + 1 - bytes.count)
        let count = part.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress, wanted) }
        if count == 0 { break }
        if count < 0 {
            if errno == EINTR { continue }
            throw FileProblem(errno: errno)
        }
        bytes += part[..<count]
    }
    return bytes
}

/// Returns the absolute folder of `file`. Symbolic links are not resolved, so that relative paths mean what the author
/// of the file sees.
package func absoluteFolder(of file: String) throws(FileProblem) -> String {
    let folder = file.lastIndex(of: "/").map { String(file[..<$0]) }
    if file.hasPrefix("/") { return folder.flatMap { $0.isEmpty ? nil : $0 } ?? "/" }
    guard let pointer = getcwd(nil, 0) else { throw FileProblem(errno: errno) }
    defer { free(pointer) }
    let working = String(systemString: pointer)
    return folder.map { working == "/" ? "/\($0)" : "\(working)/\($0)" } ?? working
}
