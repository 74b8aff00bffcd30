extension HostConfiguration {
    /// Returns the control socket of the host that serves a configuration file. If the file has one, ignores other
    /// errors: an operator who asks for a reload may have just made a mistake, and the host reports it.
    ///
    /// Blocks on the file system.
    ///
    /// - Returns: an absolute path; `nil` if the file has no `node.control`.
    /// - Throws: ``ConfigurationErrors`` if the file cannot be read as YAML or `node.control` is wrong; all errors of
    ///   the file if it has no `node.control`, which may be misspelt.
    package static func controlSocket(of file: String) throws(ConfigurationErrors) -> String? {
        let (bytes, folder) = try contents(of: file)
        let (root, _) = YAMLReader.read(bytes, file: file, substitution: YAMLSubstitution(folder: folder))
        guard let socket = root?.entry("node")?.entry("control") else {
            _ = try parse(bytes, file: file, folder: folder, files: ConfigurationFiles())
            return nil
        }
        do throws(ConfigurationError) {
            return try ValueType.socketPath.parse(socket, folder)
        } catch {
            throw ConfigurationErrors([error])
        }
    }
}

extension YAMLNode {
    /// Returns the value of a key; `nil` if this is not a mapping or has no such key.
    fileprivate func entry(_ key: String) -> YAMLNode? {
        guard case .mapping(let entries) = content else { return nil }
        return entries.first { $0.key == key }?.value
    }
}

extension ValueType<String> {
    /// A path that fits into the address of a Unix socket.
    static let socketPath = ValueType(
        "path, at most \(HostAddress.longestSocketPath) bytes when absolute",
        parse: { (node, folder) throws(ConfigurationError) in
            let path = try node.path(relativeTo: folder)
            let count = path.systemBytes.count
            guard count <= HostAddress.longestSocketPath else {
                throw ConfigurationError(
                    "the path of the control socket \(quoted(path)) has \(count) bytes, but at most "
                        + "\(HostAddress.longestSocketPath) are allowed: choose a shorter one, such as "
                        + "/run/chanserv.sock", at: node.location)
            }
            return path
        }, text: { $0 })
}
