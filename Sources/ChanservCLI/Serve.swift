import ArgumentParser
import ChanservHost
import Glibc
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
              SIGUSR2  starts a new process that takes over, as
                       'chanserv upgrade' does
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

    @Flag(
        help: ArgumentHelp(
            """
            Take the place of the host that runs with the same 'node.control', without a refused connection. It lets \
            its requests end and exits. If no host runs, start as without this option.
            """))
    var takeOver = false

    @Option(help: ArgumentHelp("The descriptor for the reasons of a failed start.", visibility: .hidden))
    var reportDescriptor: Int32?

    @Flag(help: ArgumentHelp("Stop at the end of standard input, as on SIGTERM.", visibility: .hidden))
    var stopWithInput = false

    func run() async throws {
        let log = LineLogHandler.bootstrapSecondary(level: logLevel, format: logFormat)
        defer { log.flush() }
        let logger = Logger(label: "chanserv")
        let host = PluginHost(
            configurationFile: config, logger: logger, program: OwnProgram.path,
            manager: ServiceManager.fromEnvironment(logger: logger), accessLogFormat: logFormat.accessLog)
        await host.replacement.allowUpgrades(
            OwnProgram.successorLaunch(), obstacle: ProcessStart.isChildOfInit ? Self.inInit : nil)
        do throws(HostError) {
            let inheritance = HostInheritance(sockets: try SocketActivation.fromEnvironment(), takesOver: takeOver)
            let report = reportDescriptor
            let session = ServeSession(
                host, inheritance, logger: logger, log: log, stopsWithInput: stopWithInput,
                onReady: { if let report { close(report) } })
            try await session.run()
        } catch {
            for problem in error.problems { logger.critical("\(problem)") }
            if let reportDescriptor { SuccessorReport.write(error.problems, to: reportDescriptor) }
            throw ExitCode(error.code.exitCode)
        }
    }

    private static let inInit =
        "this host is the main program of a container, which ends with it: replace the container instead"
}

extension LogFormat: ExpressibleByArgument {
    fileprivate var accessLog: AccessLogFormat {
        switch self {
        case .text: .text
        case .json: .json
        }
    }
}
