import ArgumentParser
import PluginConformance

/// `chanserv plugin pin`: prints the configuration line that pins a plugin to the digest of its file.
struct PluginPinLine: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pin",
        abstract: "Prints the line 'sha256: …' that pins a plugin to its file.",
        discussion: """
            Put the line beside the plugin's 'path' in the configuration. The host then refuses any other file. The \
            command does not run code of the library.

            The host also refuses a file or folder that other users can write to, or that belongs to another user than \
            root or the host's user. The command warns on standard error if the host would refuse the file, and says \
            how to fix it.

            Exit codes: 0 success; 65 the file is not a shared library.

            EXAMPLES
              chanserv plugin pin Plugins/libEcho.so
            """)

    @Argument(help: ArgumentHelp("The shared library.", valueName: "file"))
    var file: String

    func run() throws {
        let pin: PluginPin
        do {
            pin = try PluginPin(path: file)
        } catch {
            StandardError.report("\(error)")
            throw ExitCode(65)
        }
        try StandardOutput.write("sha256: \(pin.digest)\n")
        for refusal in pin.refusals { StandardError.write("warning: the host would refuse \(file): \(refusal)") }
    }
}
