/// What the host table's getters need of a plugin's configuration.
///
/// Every getter returns `nil` where the key is absent and throws an error whose description has file, line and column
/// where the value is of another type.
package protocol PluginConfigurationValues: Sendable {
    /// The whole as JSON text.
    var json: String { get }
    func string(at path: String) throws -> String?
    func integer(at path: String) throws -> Int64?
    func number(at path: String) throws -> Double?
    func boolean(at path: String) throws -> Bool?
    func duration(at path: String) throws -> Duration?
    func size(at path: String) throws -> UInt64?
    func count(at path: String) throws -> Int?
    /// A file system path, made absolute against the configuration file's folder.
    func path(at path: String) throws -> String?
    /// Refuses top-level keys that are not in `known`.
    func only(known: [String]) throws
}
