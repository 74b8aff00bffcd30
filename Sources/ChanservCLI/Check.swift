import ArgumentParser
import ChanservHost
import Logging

/// `chanserv check`: validates a configuration without serving it.
struct Check: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Checks a configuration and its plugins without serving them.",
        discussion: """
            Reads the configuration, loads each plugin, creates its instances and destroys them. Reports every problem \
            that would make 'chanserv serve' fail, one line each on standard error: 'file:line:column: message'.

            To apply a checked configuration to a running host, use 'chanserv reload', 'systemctl reload chanserv' or \
            SIGHUP. 'chanserv status' shows the host's process ID.

            Opens no port and does not check whether the addresses are free.

            Exit codes: 0 no problem found; 65 at least one problem.

            EXAMPLES
              chanserv check
              chanserv check --config /etc/chanserv.yaml
              chanserv check && chanserv reload
            """)

    @Option(
        name: [.customShort("c"), .long], help: ArgumentHelp("The configuration file.", valueName: "file"))
    var config = "chanserv.yaml"

    func run() async throws {
        LineLogHandler.bootstrap(level: .warning, format: .text)
        do {
            for warning in try await PluginHost.check(
                configurationFile: config, logger: Logger(label: "chanserv"), program: OwnProgram.path)
            {
                StandardError.write("warning: \(warning)")
            }
        } catch {
            for problem in error.problems { StandardError.report(problem) }
            throw ExitCode(error.code.exitCode)
        }
        try StandardOutput.write("\(config) is fine\n")
    }
}
