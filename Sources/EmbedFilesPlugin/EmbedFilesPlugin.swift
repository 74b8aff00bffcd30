import Foundation
import PackagePlugin

/// Builds `EmbeddedFiles.swift` of the command: the templates of `chanserv plugin new`, the C header and the Swift SDK.
@main struct EmbedFilesPlugin: BuildToolPlugin {
    /// The dictionaries of `EmbeddedFiles`: name, folder in the package, end of the file names.
    private static let dictionaries = [
        ("templates", "Sources/ChanservCLI/Plugin/Templates", ".template"),
        ("include", "Sources/CChanservPlugin/include", ""),
        ("sdkC", "Sources/CChanservPlugin", ".c"),
        ("sdk", "Sources/ChanservPlugin", ".swift"),
    ]

    func createBuildCommands(context: PluginContext, target: any Target) throws -> [Command] {
        let output = context.pluginWorkDirectoryURL.appendingPathComponent("EmbeddedFiles.swift")
        var arguments = [output.path]
        var inputs: [URL] = []
        for (name, folder, suffix) in Self.dictionaries {
            let root = context.package.directoryURL.appendingPathComponent(folder, isDirectory: true)
            arguments += [name, root.path, suffix]
            inputs += try FileManager.default.subpathsOfDirectory(atPath: root.path)
                .filter { $0.hasSuffix(suffix) }.map { root.appendingPathComponent($0) }
        }
        return [
            .buildCommand(
                displayName: "Embedding the templates and the plugin SDK",
                executable: try context.tool(named: "EmbedFiles").url, arguments: arguments, inputFiles: inputs,
                outputFiles: [output])
        ]
    }
}
