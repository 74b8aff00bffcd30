import ArgumentParser
import ChanservHost
import Logging

/// `chanserv serve`: runs a host.
struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serves the routes of a configuration file.",
        usage: "chanserv serve [<options>]",
        discussion: """
            Logs to standard error. The line 'ready: listening on …' gives the addresses.

            SIGNALS
              SIGHUP   reloads the configuration and the plugins;
                       after an error nothing changes; opens
                       the file of 'log.access' again
              SIGTERM, SIGINT
                       stop the host: it takes no new requests,
                       and open ones may run for 'node.drain';
                       a second signal exits at once

            Exit codes: 0 stopped by a signal; 65 the configuration or a plugin is wrong; 69 unavailable, for example \
            the address is in use; 70 internal error.

            EXAMPLES
              chanserv serve
              chanserv serve --config /etc/chanserv.yaml
              chanserv serve --log-level debug --log-format json
            """)

    @Option(
        name: [.customShort("c"), .long], help: ArgumentHelp("The configuration file.", valueName: "file"))
    var config = "chanserv.yaml"

    @Option(help: ArgumentHelp("The lowest level to log.", valueName: "level"))
    var logLevel = Logger.Level.info

    @Option(help: ArgumentHelp("The log format: text, or json with one object per line.", valueName: "format"))
    var logFormat = LogFormat.text

    @Flag(help: ArgumentHelp("Stop at the end of standard input, as on SIGTERM.", visibility: .hidden))
    var stopWithInput = false

    func run() async throws {
        let log = LineLogHandler.bootstrapSecondary(level: logLevel, format: logFormat)
        defer { log.flush() }
        let logger = Logger(label: "chanserv")
        let host = PluginHost(
            configurationFile: config, logger: logger, program: OwnProgram.path,
            manager: ServiceManager.fromEnvironment(logger: logger), accessLogFormat: logFormat.accessLog)
        do {
            try await ServeSession(host, logger: logger, log: log, stopsWithInput: stopWithInput).run()
        } catch {
            for problem in error.problems { logger.critical("\(problem)") }
            throw ExitCode(error.code.exitCode)
        }
    }
}

extension LogFormat: ExpressibleByArgument {
    fileprivate var accessLog: AccessLogFormat {
        switch self {
        case .text: .text
        case .json: .json
        }
    }
}
