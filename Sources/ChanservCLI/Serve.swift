import ArgumentParser
import ChanservHost
import Logging

/// `chanserv serve`: a host from its first line in the log to its last.
struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serves the routes of a configuration file.",
        discussion: """
            Logs to standard error; one line says that it is ready and where it listens.

            SIGHUP reads the configuration and the plugins again: all of it takes effect, or, if anything is wrong, \
            none. SIGTERM and SIGINT stop accepting, let running requests finish for as long as 'drain' allows, and \
            exit with 0; a second one exits at once.

            EXAMPLES
              chanserv serve
              chanserv serve --config /etc/chanserv.yaml --log-format json
            """)

    @Option(help: ArgumentHelp("The configuration file.", valueName: "file"))
    var config = "chanserv.yaml"

    @Option(help: ArgumentHelp("What to log: \(Logger.Level.names). What is below is left out.", valueName: "level"))
    var logLevel = Logger.Level.info

    @Option(help: "How to log: text for people, or json, one object a line.")
    var logFormat = LogFormat.text

    @Flag(help: ArgumentHelp("Stop as on SIGTERM when standard input ends.", visibility: .hidden))
    var stopWithInput = false

    func run() async throws {
        let log = LineLogHandler.bootstrapBeside(level: logLevel, format: logFormat)
        defer { log.flush() }
        let logger = Logger(label: "chanserv")
        let host = Host(
            configurationFile: config, logger: logger, program: OwnProgram.path,
            manager: ServiceManager.fromEnvironment(logger: logger))
        do {
            try await ServeSession(host, logger: logger, log: log, stopsWithInput: stopWithInput).run()
        } catch {
            for problem in error.problems { logger.critical("\(problem)") }
            throw ExitCode(error.code.exitCode)
        }
    }
}

extension Logger.Level: @retroactive ExpressibleByArgument {
    static var names: String { allCases.map(\.rawValue).joined(separator: ", ") }
}

extension LogFormat: ExpressibleByArgument {}
