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
        let (bytes, folder) = try contents(of: file)
        return try parse(bytes, file: file, folder: folder, fileProblem: problemOfFile)
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
        try parse(Array(text.utf8), file: file, folder: folder) { _ in nil }
    }

    /// As ``parse(_:file:folder:)``. `fileProblem` returns what is wrong with the file at a path, or `nil`.
    package static func parse(
        _ bytes: [UInt8], file: String, folder: String, fileProblem: (String) -> String?
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
        let configuration = reader.host(root, file: file, fileProblem: fileProblem)
        guard reader.problems.isEmpty else { throw ConfigurationErrors(reader.problems) }
        return configuration
    }

    static let rootKeys = ["node", "defaults", "plugins", "routes"]
}

extension ConfigurationReader {
    /// Reads the root of the file.
    fileprivate mutating func host(
        _ root: YAMLNode, file: String, fileProblem: (String) -> String?
    ) -> HostConfiguration {
        let entries = entries(root, "the configuration", known: HostConfiguration.rootKeys)
        var node = HostConfiguration.Node()
        if let entry = entries["node"] { _ = section(entry.value, ConfigurationSchema.node, into: &node) }
        var defaults = (routes: RouteOptions(), plugins: IsolationOptions())
        if let entry = entries["defaults"] { _ = section(entry.value, ConfigurationSchema.defaults, into: &defaults) }
        let (plugins, names) =
            entries["plugins"].map { self.plugins($0.value, isolation: defaults.plugins, fileProblem: fileProblem) }
            ?? ([], [])
        let context = RouteContext(
            plugins: Dictionary(uniqueKeysWithValues: plugins.map { ($0.name, $0) }),
            pluginNames: names, defaults: defaults.routes, environment: node.environment)
        let routes = entries["routes"].map { self.routes($0.value, context) } ?? []
        checkRole(node.role, entries["node"]?.value, routes)
        return HostConfiguration(
            file: file, folder: folder, node: node, plugins: plugins, routes: routes,
            warnings: warnings(
                node, plugins, routes, at: entries["routes"]?.keyLocation ?? ConfigurationLocation(file: file)))
    }

    private func warnings(
        _ node: HostConfiguration.Node, _ plugins: [HostConfiguration.Plugin], _ routes: [HostConfiguration.Route],
        at routesLocation: ConfigurationLocation
    ) -> [ConfigurationError] {
        let used = Set(routes.map(\.plugin))
        var warnings = plugins.filter { !used.contains($0.name) }.map {
            ConfigurationError("no route uses the plugin \(quoted($0.name))", at: $0.location)
        }
        // A router is useful without routes.
        if routes.isEmpty, node.role != .router {
            warnings.append(ConfigurationError("there are no routes: nothing is served", at: routesLocation))
        }
        return ConfigurationErrors.sorted(warnings)
    }
}

/// The reason why a file could not be read.
package struct FileProblem: Error {
    package var message: String

    package init(_ message: String) { self.message = message }

    init(errno code: Int32) { message = "cannot be read: \(String(cString: strerror(code)))" }
}

/// Returns the bytes of a file, at most `limit + 1` of them. The extra byte lets the reader reject a larger file.
package func readBytes(_ file: String, limit: Int) throws(FileProblem) -> [UInt8] {
    guard !file.utf8.contains(0) else { throw FileProblem("the file name contains a zero byte") }
    let descriptor = open(file.systemString, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileProblem(errno: errno) }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: limit + 1)
    var count = 0
    while count < bytes.count {
        let result = bytes.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress! + count, $0.count - count) }
        if result == 0 { break }
        if result < 0 {
            if errno == EINTR { continue }
            throw FileProblem(errno: errno)
        }
        count += result
    }
    bytes.removeSubrange(count...)
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

/// Returns what is wrong with a plugin's file, as far as this is known without opening it.
private func problemOfFile(_ path: String) -> String? {
    var status = stat()
    guard lstat(path.systemString, &status) == 0 else {
        return errno == ENOENT ? "does not exist" : "cannot be used: \(String(cString: strerror(errno)))"
    }
    switch status.st_mode & S_IFMT {
    case S_IFREG: return nil
    case S_IFLNK:
        let target = realpath(path.systemString, nil)
        defer { free(target) }
        guard let target else {
            return "is a broken symbolic link, and symbolic links are not followed: put the library itself there"
        }
        return "is a symbolic link, which is not followed: put the library itself there, or set 'path' to "
            + "'\(String(systemString: target))'"
    default: return "is not a regular file"
    }
}
