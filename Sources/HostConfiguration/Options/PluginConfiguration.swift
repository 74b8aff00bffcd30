/// The configuration of one plugin instance: the `config:` of a route merged over that of its plugin.
///
/// The getters of `struct chanserv_host` (`config_…` in `chanserv_plugin.h`) read it, and a reload compares it. Two
/// configurations are equal if their values are; positions in the file, the order of keys and notation do not matter.
public struct PluginConfiguration: Sendable {
    /// The configuration as JSON on one line with sorted keys; equal values give equal text. `{}` if nothing is
    /// configured. Scalars have the types of YAML's core schema: `1` is an integer, `1.5` a number, `true` a boolean,
    /// an empty value null; everything else, and everything quoted, is a string.
    public let json: String
    /// The absolute folder that relative paths are resolved against: the folder of the configuration file.
    public let folder: String
    package let root: YAMLNode

    /// - Parameters:
    ///   - root: a mapping without infinite numbers and NaN, which JSON cannot represent.
    ///   - folder: see ``folder``.
    package init(_ root: YAMLNode, folder: String) {
        self.root = root
        self.folder = folder
        json = root.canonicalJSON()
    }

    /// Parses the mapping that a file would have under `config:`. For tests of plugins and hosts.
    ///
    /// - Parameters:
    ///   - text: YAML; an empty text is an empty configuration.
    ///   - file: the name of the file in messages.
    ///   - folder: the absolute folder that relative paths are resolved against.
    /// - Throws: ``ConfigurationErrors``.
    public init(yaml text: String, file: String = "config", folder: String = "/") throws(ConfigurationErrors) {
        let (root, problems) = YAMLReader.read(
            Array(text.utf8), file: file, substitution: YAMLSubstitution(folder: folder))
        var reader = ConfigurationReader(problems: problems, folder: folder)
        let whole = ConfigurationLocation(file: file)
        let tree = reader.pluginConfiguration(root ?? YAMLNode(.mapping([]), at: whole))
        guard reader.problems.isEmpty else { throw ConfigurationErrors(reader.problems) }
        self.init(tree, folder: folder)
    }

    /// The position of the configuration: the route's if it has one, otherwise the plugin's.
    public var location: ConfigurationLocation { root.location }

    /// Returns the text at `path`. All getters handle `path` and errors in the same way.
    ///
    /// - Parameter path: keys separated by dots; a list element is its index, counted from 0. Example: `limits.0.size`.
    /// - Returns: `nil` if the key is missing, the list is shorter, or the value is null.
    /// - Throws: if the value has another type, or the path passes through a value that is neither a list nor a
    ///   mapping.
    public func string(at path: String) throws(ConfigurationError) -> String? {
        try node(at: path)?.string()
    }

    /// Returns the integer at `path`, signed, 64 bits. See ``string(at:)``.
    public func integer(at path: String) throws(ConfigurationError) -> Int64? {
        try node(at: path)?.integer()
    }

    /// Returns the number at `path`; integers are numbers too. See ``string(at:)``.
    public func number(at path: String) throws(ConfigurationError) -> Double? {
        try node(at: path)?.number()
    }

    /// Returns the boolean at `path`: `true` or `false`. See ``string(at:)``.
    public func boolean(at path: String) throws(ConfigurationError) -> Bool? {
        try node(at: path)?.boolean()
    }

    /// Returns the duration at `path` in the notation of ``ValueGrammar/duration(_:)``. See ``string(at:)``.
    public func duration(at path: String) throws(ConfigurationError) -> Duration? {
        try node(at: path)?.duration()
    }

    /// Returns the size in bytes at `path` in the notation of ``ValueGrammar/size(_:)``. See ``string(at:)``.
    public func size(at path: String) throws(ConfigurationError) -> UInt64? {
        try node(at: path)?.size()
    }

    /// Returns the file system path at `path`. A relative one is resolved against ``folder``. `..` and symbolic links
    /// are left to the operating system. See ``string(at:)``.
    public func path(at path: String) throws(ConfigurationError) -> String? {
        try node(at: path)?.path(relativeTo: folder)
    }

    /// Returns the number of elements of the list at `path`. See ``string(at:)``.
    public func count(at path: String) throws(ConfigurationError) -> Int? {
        try node(at: path)?.list().count
    }

    /// Returns the keys of the mapping at `path`, in the order of the file. See ``string(at:)``.
    public func keys(at path: String) throws(ConfigurationError) -> [String]? {
        try node(at: path)?.mapping().map(\.key)
    }

    /// Rejects top-level keys that are not in `known`.
    ///
    /// - Throws: at the first unknown key in the file. The message suggests the nearest known key and lists the other
    ///   unknown ones.
    public func only(known: some Sequence<String>) throws(ConfigurationError) {
        let known = Array(known)
        guard case .mapping(let entries) = root.content else { return }
        let unknown = entries.filter { !known.contains($0.key) }.sorted { $0.keyLocation < $1.keyLocation }
        guard let first = unknown.first else { return }
        var message = "unknown key \(quoted(first.key))" + NearestKey.hint(first.key, among: known)
        if unknown.count > 1 {
            let others = unknown.dropFirst().prefix(10).map { quoted($0.key) }
            message += " (unknown too: \(others.joined(separator: ", ")))"
        }
        throw ConfigurationError(message, at: first.keyLocation)
    }

    /// Returns the node at `path`; the empty path is the root.
    private func node(at path: String) throws(ConfigurationError) -> YAMLNode? {
        var node = root
        for part in path.isEmpty ? [] : path.split(separator: ".", omittingEmptySubsequences: false) {
            switch node.content {
            case .mapping(let entries):
                guard let entry = entries.first(where: { $0.key == part }) else { return nil }
                node = entry.value
            case .list(let elements):
                guard let index = Int(part), index >= 0 else {
                    throw node.mismatch("a mapping with the key \(quoted(part))")
                }
                guard index < elements.count else { return nil }
                node = elements[index]
            case .scalar, .unusable:
                if node.isNull { return nil }
                throw node.mismatch("a mapping or a list on the way to \(quoted(path))")
            }
        }
        return node.isNull ? nil : node
    }
}

extension PluginConfiguration: Hashable {
    public static func == (left: Self, right: Self) -> Bool {
        left.json == right.json && left.folder == right.folder
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(json)
        hasher.combine(folder)
    }
}

extension PluginConfiguration: CustomStringConvertible {
    public var description: String { json }
}
