import ArgumentParser
import ChanservHost

/// `chanserv plugin pin`: the line that keeps a host from loading any other bytes.
struct PluginPinLine: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pin",
        abstract: "Writes the line 'sha256: …' that pins a plugin to its bytes.",
        discussion: """
            The line goes under the plugin's name in the configuration, beside its path; the host then refuses any other \
            file. Nothing of the library is run.

            The host also refuses files and folders that others could write to, or that belong to anybody but root and \
            the user it runs as. Where the file as it lies there would be refused, a warning on standard error says so, \
            and what would put it right.

            Exits with 0, or with 65 if the file is no shared library.

            EXAMPLES
              chanserv plugin pin Plugins/libEcho.so
              chanserv plugin pin Plugins/libEcho.so >> chanserv.yaml    # then move the line to its place
            """)

    @Argument(help: ArgumentHelp("The shared library.", valueName: "file"))
    var file: String

    func run() throws {
        do {
            let pin = try PluginPin(path: file)
            print("sha256: \(pin.digest)")
            for refusal in pin.refusals { StandardError.write("warning: \(file) would be refused: \(refusal)") }
        } catch {
            StandardError.write("\(error)")
            throw ExitCode(65)
        }
    }
}
