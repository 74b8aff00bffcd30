import CChanservPlugin

/// What stands under `config:` for this instance. It can only be read while the plugin is made.
///
/// ``decode(_:)`` reads all of it into a type of the plugin's own. The other functions read one value each: a path names
/// it, keys separated by dots, elements of lists by their index, e.g. `limits.0.size`. Each of these returns `nil` where
/// the key is absent, and throws a ``PluginError`` that names the place in the file where the value is not of that type.
public struct Configuration: ~Copyable {
    let getters: ConfigurationGetters

    init(host: UnsafePointer<chanserv_host>, config: OpaquePointer?) {
        getters = ConfigurationGetters(host: host, config: config)
    }

    /// Throws where there is a key other than `keys` (top level only): a misspelt option becomes an error at start.
    public func only(_ keys: [String]) throws(PluginError) { try getters.only(keys) }

    /// Text.
    public func string(_ path: String) throws(PluginError) -> String? { try getters.string(path) }

    /// A path of the file system, absolute or made so against the configuration file's folder.
    public func path(_ path: String) throws(PluginError) -> String? { try getters.path(path) }

    /// A whole number.
    public func integer(_ path: String) throws(PluginError) -> Int? { try getters.integer(path).map { Int($0) } }

    /// A number.
    public func number(_ path: String) throws(PluginError) -> Double? { try getters.number(path) }

    /// `true` or `false`.
    public func boolean(_ path: String) throws(PluginError) -> Bool? { try getters.boolean(path) }

    /// A duration like `250ms`, `30s`, `5m`, `1h`.
    public func duration(_ path: String) throws(PluginError) -> Duration? { try getters.duration(path) }

    /// A size like `512`, `64KiB`, `100MiB`, `1GiB`, in bytes.
    public func size(_ path: String) throws(PluginError) -> UInt64? { try getters.size(path) }

    /// How many elements a list has.
    public func count(_ path: String) throws(PluginError) -> Int? { try getters.count(path) }

    /// Everything, as JSON text.
    public func json() throws(PluginError) -> String? { try getters.json() }
}
