import ArgumentParser

/// `chanserv plugin`: commands for plugin authors and operators.
struct Plugin: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Creates, tests and pins plugins, and prints the include folder.",
        subcommands: [PluginNew.self, PluginIncludeDir.self, PluginTest.self, PluginPinLine.self, PluginRunCase.self])
}
