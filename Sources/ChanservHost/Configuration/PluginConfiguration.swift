/// The configuration of one plugin instance: what stands under `config:` at its route, merged over the plugin's.
///
/// It answers the getters of `struct chanserv_host` (`config_…` in `chanserv_plugin.h`) and is what a reload compares:
/// two are equal when their values are, whatever their places in the file, the order of their keys and the way their
/// values are written.
public struct PluginConfiguration: Sendable {
    /// The whole as JSON text on one line, keys sorted: the same text for the same values. `{}` where nothing is
    /// configured. Scalars have the type of YAML's core schema: `1` is an integer, `1.5` a number, `true` a boolean,
    /// empty is null, all else and everything quoted a string.
    public let json: String
    /// The folder relative paths are relative to: the configuration file's, absolute.
    public let folder: String
    let root: YAMLNode

    /// - Parameters:
    ///   - root: a mapping whose numbers JSON can say.
    ///   - folder: see ``folder``.
    package init(_ root: YAMLNode, folder: String) {
        self.root = root
        self.folder = folder
        json = root.canonicalJSON()
    }

    /// Reads YAML text whose root is a mapping: what would stand under `config:`. For tests of plugins and hosts.
    ///
    /// - Parameters:
    ///   - text: YAML; empty for no configuration.
    ///   - file: its name in messages.
    ///   - folder: what relative paths are relative to, absolute.
    /// - Throws: ``ConfigurationErrors``.
    public init(yaml text: String, file: String = "config", folder: String = "/") throws(ConfigurationErrors) {
        let (root, problems) = YAMLReader.read(Array(text.utf8), file: file)
        var reader = ConfigurationReader(problems: problems)
        let whole = ConfigurationLocation(file: file)
        let tree = reader.pluginConfiguration(root ?? YAMLNode(.mapping([]), at: whole))
        guard reader.problems.isEmpty else { throw ConfigurationErrors(reader.problems) }
        self.init(tree, folder: folder)
    }

    /// Where the configuration stands: the route's if it has one, else the plugin's.
    public var location: ConfigurationLocation { root.location }

    /// The text at `path`.
    ///
    /// - Parameter path: keys separated by dots, elements of lists by their index counted from 0, e.g.
    ///   `limits.0.size`; the same in all the getters.
    /// - Returns: `nil` where the key is absent, the list is shorter, or the value is null; so in all the getters.
    /// - Throws: where the value is of another type, or the path leads through one that is no list or mapping; so in
    ///   all the getters.
    public func string(at path: String) throws(ConfigurationError) -> String? {
        try node(at: path)?.string()
    }

    /// The integer at `path`, 64 bits with a sign. See ``string(at:)``.
    public func integer(at path: String) throws(ConfigurationError) -> Int64? {
        try node(at: path)?.integer()
    }

    /// The number at `path`; integers are numbers. See ``string(at:)``.
    public func number(at path: String) throws(ConfigurationError) -> Double? {
        try node(at: path)?.number()
    }

    /// The boolean at `path`: `true` or `false`. See ``string(at:)``.
    public func boolean(at path: String) throws(ConfigurationError) -> Bool? {
        try node(at: path)?.boolean()
    }

    /// The duration at `path`, written as ``ValueGrammar/duration(_:)`` reads it. See ``string(at:)``.
    public func duration(at path: String) throws(ConfigurationError) -> Duration? {
        try node(at: path)?.duration()
    }

    /// The size in bytes at `path`, written as ``ValueGrammar/size(_:)`` reads it. See ``string(at:)``.
    public func size(at path: String) throws(ConfigurationError) -> UInt64? {
        try node(at: path)?.size()
    }

    /// The path of the file system at `path`: text, made absolute against ``folder`` where it is relative. Nothing else
    /// is changed about it, `..` and symbolic links are the operating system's to follow. See ``string(at:)``.
    public func path(at path: String) throws(ConfigurationError) -> String? {
        try node(at: path)?.path(relativeTo: folder)
    }

    /// How many elements the list at `path` has. See ``string(at:)``.
    public func count(at path: String) throws(ConfigurationError) -> Int? {
        try node(at: path)?.list().count
    }

    /// Returns the keys of the mapping at `path`, in the order of the file. See ``string(at:)``.
    public func keys(at path: String) throws(ConfigurationError) -> [String]? {
        try node(at: path)?.mapping().map(\.key)
    }

    /// Refuses top-level keys that are not in `known`.
    ///
    /// - Throws: at the first such key in the file, with the nearest known one; the message names the others too.
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

    /// Follows `path` from the root; the empty path is the root.
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
