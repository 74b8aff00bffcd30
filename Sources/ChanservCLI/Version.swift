import ArgumentParser

/// `chanserv version`: the version of the command, and what it is compatible with.
struct Version: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Prints the version.",
        discussion: """
            With --json, prints one object on one line: 'version'; 'commit', if the build knows it; 'build', debug or \
            release; 'abi', the newest version of the plugin interface that the host offers; 'protocol', with the \
            abilities that the host announces to other nodes and the version of the dial block.
            """)

    @Flag(help: "Print one JSON object.")
    var json = false

    func run() throws(SystemError) {
        try StandardOutput.write(json ? VersionJSON.render() : ChanservCommand.version + "\n")
    }
}
