internal import Glibc

/// The configuration of commands that are clients: `client.yaml`.
package struct ClientConfiguration: Sendable, Hashable {
    /// The nodes that a command joins if it is given none (`join`). Empty by default.
    package var join: [JoinOptions] = []
    /// TLS for the nodes that are given without it (`tls`); `nil`, the default, for none.
    package var tls: ClientTLSOptions?

    package init() {}

    /// The path of the file of this user: `chanserv/client.yaml` in `$XDG_CONFIG_HOME` or `~/.config`; `nil` without a
    /// home folder.
    package static func defaultFile(_ environment: [String: String]) -> String? {
        if let folder = environment["XDG_CONFIG_HOME"], folder.hasPrefix("/") {
            return "\(folder)/chanserv/client.yaml"
        }
        guard let home = environment["HOME"], home.hasPrefix("/") else { return nil }
        return "\(home)/.config/chanserv/client.yaml"
    }

    /// Reads a file. Blocks on the file system.
    ///
    /// - Returns: `nil` if the file does not exist.
    /// - Throws: ``ConfigurationErrors`` with all errors.
    package static func read(_ file: String) throws(ConfigurationErrors) -> ClientConfiguration? {
        if access(file, F_OK) != 0, errno == ENOENT || errno == ENOTDIR { return nil }
        let (bytes, folder) = try HostConfiguration.contents(of: file)
        return try parse(bytes, file: file, folder: folder)
    }

    package static func parse(
        _ bytes: [UInt8], file: String, folder: String
    ) throws(ConfigurationErrors) -> ClientConfiguration {
        let (root, problems) = YAMLReader.read(bytes, file: file, substitution: YAMLSubstitution(folder: folder))
        guard problems.isEmpty else { throw ConfigurationErrors(problems) }
        var configuration = ClientConfiguration()
        // An empty file has no document.
        guard let root else { return configuration }
        var reader = ConfigurationReader(problems: [], folder: folder)
        _ = reader.section(root, ConfigurationSchema.client, into: &configuration)
        guard reader.problems.isEmpty else { throw ConfigurationErrors(reader.problems) }
        return configuration
    }
}

extension ConfigurationSchema {
    /// The file `client.yaml`.
    static let client = OptionSection<ClientConfiguration>(
        "the configuration of a client",
        [
            ConfigurationOption(
                "join", type: "address, mapping, or a list",
                text: { $0.join.isEmpty ? "none" : $0.join.map(text).joined(separator: ", ") },
                "the nodes to join if a command is given none",
                read: { reader, entry, client in client.join = reader.joins(entry.value) }),
            ConfigurationOption(
                "tls", type: "mapping", text: { $0.tls == nil ? "none" : "set" },
                "TLS for the nodes that are given without it",
                read: { reader, entry, client in
                    var tls = ClientTLSOptions()
                    _ = reader.section(entry.value, clientTLS, into: &tls)
                    client.tls = tls
                }),
        ])
}
