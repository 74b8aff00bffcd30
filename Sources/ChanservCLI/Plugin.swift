import ArgumentParser

/// `chanserv plugin`: for those who write plugins, and those who install them.
struct Plugin: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Begins a plugin, and says where the header is.",
        subcommands: [PluginNew.self, PluginIncludeDir.self])
}
