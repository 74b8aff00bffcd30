import ArgumentParser
import ChanservHost
import Logging

/// `chanserv check`: what `serve` would refuse, without serving.
struct Check: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Finds everything 'serve' would refuse, without serving.",
        discussion: """
            Reads the configuration, loads each plugin and creates its instances, and destroys them again. Every \
            problem is a line on standard error, file:line:column: message. Exits with 0 or 65.

            Once it is content, 'chanserv reload', 'systemctl reload chanserv' or SIGHUP to the host's own process (kill \
            -HUP PID; 'chanserv status' has its number) makes a host that runs read the file again.

            EXAMPLES
              chanserv check
              chanserv check --config /etc/chanserv.yaml && chanserv reload --config /etc/chanserv.yaml
            """)

    @Option(help: ArgumentHelp("The configuration file.", valueName: "file"))
    var config = "chanserv.yaml"

    func run() async throws {
        LineLogHandler.bootstrap(level: .warning, format: .text)
        do {
            for warning in try await Host.check(
                configurationFile: config, logger: Logger(label: "chanserv"), program: OwnProgram.path)
            {
                StandardError.write("warning: \(warning)")
            }
        } catch {
            for problem in error.problems { StandardError.write(problem) }
            throw ExitCode(error.code.exitCode)
        }
        print("\(config) is fine")
    }
}
