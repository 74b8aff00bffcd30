import CChanservPlugin

/// The value under `config:` of this instance. It is readable only during the plugin's initialiser.
///
/// ``decode(_:)`` reads all of it into a type of the plugin. The other functions read one value each. A path names the
/// value: keys separated by dots, and list elements by their index, e.g. `limits.0.size`. These functions return `nil`
/// if the key is absent. If the value has another type, they throw a ``PluginError`` that states the place in the file.
public struct Configuration: ~Copyable {
    let getters: ConfigurationGetters

    init(host: UnsafePointer<chanserv_host>, config: OpaquePointer?) {
        getters = ConfigurationGetters(host: host, config: config)
    }

    /// Throws if there is a top-level key that is not in `keys`. This makes a misspelt option an error at start.
    public func only(_ keys: [String]) throws(PluginError) { try getters.only(keys) }

    /// Returns a text.
    public func string(_ path: String) throws(PluginError) -> String? { try getters.string(path) }

    /// Returns a file system path. A relative path is resolved against the folder of the configuration file.
    public func path(_ path: String) throws(PluginError) -> String? { try getters.path(path) }

    /// Returns an integer.
    public func integer(_ path: String) throws(PluginError) -> Int? { try getters.integer(path).map { Int($0) } }

    /// Returns a number.
    public func number(_ path: String) throws(PluginError) -> Double? { try getters.number(path) }

    /// Returns `true` or `false`.
    public func boolean(_ path: String) throws(PluginError) -> Bool? { try getters.boolean(path) }

    /// Returns a duration such as `250ms`, `30s`, `5m` or `1h`.
    public func duration(_ path: String) throws(PluginError) -> Duration? { try getters.duration(path) }

    /// Returns a size in bytes, configured for example as `512`, `64KiB`, `100MiB` or `1GiB`.
    public func size(_ path: String) throws(PluginError) -> UInt64? { try getters.size(path) }

    /// Returns the number of elements of a list.
    public func count(_ path: String) throws(PluginError) -> Int? { try getters.count(path) }

    /// Returns the whole configuration as JSON text.
    public func json() throws(PluginError) -> String? { try getters.json() }
}
