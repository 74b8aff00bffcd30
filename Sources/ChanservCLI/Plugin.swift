import ArgumentParser

/// `chanserv plugin`: for those who write plugins, and those who install them.
struct Plugin: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Begins a plugin, tests it, pins it, and says where the header is.",
        subcommands: [PluginNew.self, PluginIncludeDir.self, PluginTest.self, PluginPinLine.self, PluginRunCase.self])
}
