import ArgumentParser
import ChanservHost
import Logging

/// `chanserv router`: a node that only links others, without a configuration file.
struct Router: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Links the nodes of a mesh: passes on what they offer, and streams between them.",
        discussion: """
            Hosts, clients and other nodes join a router and reach each other through it, or directly where they can. \
            It has no routes, no plugins and no configuration file; a host with routes becomes a router as well with \
            'role: router' under 'node'.

            Logs to standard error; one line says that it is ready and where it listens. SIGTERM and SIGINT close all \
            links and end it with 0; a second one ends it at once. It exits with 69 where it cannot listen.

            Between two hosts there can be one router: routers that join each other do not pass on what they hear \
            from one another.

            EXAMPLES
              chanserv router --listen 0.0.0.0:10000
              chanserv router --listen 10.0.0.1:10000 '[::1]:10000' --join other.example.org:10000
            """)

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp("Where to listen, one address or several; port 0 is any free one.", valueName: "address"),
        transform: { try HostAddress($0) })
    var listen: [HostAddress]

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Nodes to join, and to join again whenever the link is gone; may be repeated.", valueName: "host:port"),
        transform: { try HostAddress(joinable: $0) })
    var join: [HostAddress] = []

    @Option(help: "The environment whose hosts it makes direct links to; it passes on the names of all.")
    var environment = ""

    @Option(help: ArgumentHelp("What to log: \(Logger.Level.names). What is below is left out.", valueName: "level"))
    var logLevel = Logger.Level.info

    @Option(help: "How to log: text for people, or json, one object a line.")
    var logFormat = LogFormat.text

    func run() async throws {
        let log = LineLogHandler.bootstrapBeside(level: logLevel, format: logFormat)
        defer { log.flush() }
        let logger = Logger(label: "chanserv")
        var node = HostConfiguration.Node()
        node.role = .router
        node.listen = listen
        node.join = join
        node.environment = environment.isEmpty ? nil : environment
        do {
            try await RouterSession(
                node, logger: logger, log: log, manager: ServiceManager.fromEnvironment(logger: logger)
            ).run()
        } catch {
            for problem in error.problems { logger.critical("\(problem)") }
            throw ExitCode(error.code.exitCode)
        }
    }
}
