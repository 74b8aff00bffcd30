internal import Glibc

/// What is to be tested, and with what: in the parent turned into a child's arguments, in the child read from them.
package struct CaseOrder: Sendable {
    /// The plugin's file.
    package let file: String
    let configuration: PluginConfiguration
    /// At least one.
    let requests: [String]

    /// - Parameters:
    ///   - file: the plugin's.
    ///   - configuration: what would stand under `config:`: the name of a YAML file, or YAML itself; `nil` for nothing.
    ///   - requests: the bodies; one that is empty where there are none.
    /// - Throws: ``ConfigurationErrors``.
    package init(file: String, configuration: String?, requests: [String]) throws(ConfigurationErrors) {
        self.file = file
        self.requests = requests.isEmpty ? [""] : requests
        let given = configuration ?? ""
        let isFile = !given.isEmpty && access(given, F_OK) == 0
        var text = given
        let folder: String
        do throws(FileProblem) {
            if isFile {
                text = String(decoding: try readBytes(given, limit: YAMLLimits().fileSize), as: UTF8.self)
            } else if !given.isEmpty, !given.contains(where: { ":{\n".contains($0) }) {
                // Text without any structure is the name of a file that is not there.
                throw FileProblem("is no file, and no YAML with options")
            }
            folder = try absoluteFolder(of: isFile ? given : "x")
        } catch {
            throw ConfigurationErrors([ConfigurationError(error.message, at: ConfigurationLocation(file: given))])
        }
        self.configuration = try PluginConfiguration(
            yaml: text, file: isFile ? given : "--config", folder: folder)
    }
}
