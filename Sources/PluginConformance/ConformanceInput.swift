internal import Glibc
package import HostConfiguration

/// The plugin to test, its configuration and the requests.
package struct ConformanceInput: Sendable {
    /// The path of the plugin.
    package let file: String
    let configuration: PluginConfiguration
    /// The bodies of the requests; at least one.
    let requests: [[UInt8]]

    /// - Parameters:
    ///   - file: the path of the plugin.
    ///   - configuration: the mapping under `config:`, as the path of a YAML file or as YAML. `nil` for none.
    ///   - requests: the bodies of the requests. If there are none, one empty request is used.
    /// - Throws: ``ConfigurationErrors``.
    package init(file: String, configuration: String?, requests: [String]) throws(ConfigurationErrors) {
        self.file = file
        self.requests = requests.isEmpty ? [[]] : requests.map(\.systemBytes)
        let argument = configuration ?? ""
        let isFile = !argument.isEmpty && access(argument.systemString, F_OK) == 0
        var text = argument
        let folder: String
        do throws(FileProblem) {
            if isFile {
                text = String(decoding: try readBytes(argument, limit: YAMLLimits().fileSize), as: UTF8.self)
            } else if !argument.isEmpty, !argument.contains(where: { ":{\n".contains($0) }) {
                // Text without YAML structure is taken for the path of a missing file.
                throw FileProblem("is neither a file nor YAML with options")
            }
            folder = try absoluteFolder(of: isFile ? argument : "x")
        } catch {
            throw ConfigurationErrors([ConfigurationError(error.message, at: ConfigurationLocation(file: argument))])
        }
        self.configuration = try PluginConfiguration(
            yaml: text, file: isFile ? argument : "--config", folder: folder)
    }
}
