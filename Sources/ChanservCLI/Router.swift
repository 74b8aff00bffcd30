import ArgumentParser
import ChanservHost
import HostConfiguration
import Logging

/// `chanserv router`: runs a node that only relays between other nodes. It has no configuration file.
struct Router: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Runs a router, which relays services and streams between nodes.",
        usage: "chanserv router --listen <address> ... [<options>]",
        discussion: """
            Hosts, clients and other nodes join a router. They reach each other through it, or directly where a direct \
            link is possible. A router has no routes, no plugins and no configuration file. To make a host with routes \
            a router too, set 'role: router' under 'node'.

            There can be only one router between two hosts: a router does not relay the services that it learned from \
            another router.

            With --tls-cert and --tls-key the listeners require TLS too, and with --tls-ca also a certificate of each \
            client. For access rules, other certificates of listeners and reloads, use a host with 'role: router'.

            Logs to standard error. The line 'ready: listening on …' gives the addresses. SIGTERM and SIGINT close all \
            links; a second signal exits at once.

            Exit codes: 0 stopped by a signal; 69 cannot listen on an address.

            EXAMPLES
              chanserv router --listen 0.0.0.0:10000
              chanserv router --name router-1 --listen 10.0.0.1:10000 '[::1]:10000'
              chanserv router --listen 0.0.0.0:10000 \\
                --join other.example.org:10000
            """)

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "The addresses to listen on, one or more: host:port or unix:path. Port 0 selects a free port.",
            valueName: "address"),
        transform: { try HostAddress($0, for: .listenOption) })
    var listen: [HostAddress]

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Nodes to join, one or more: host:port or unix:path. The router joins them again after a link is lost.",
            valueName: "address"),
        transform: { try HostAddress(joinable: $0) })
    var join: [HostAddress] = []

    @OptionGroup var tls: JoinTLSOptions

    @Option(
        help: ArgumentHelp(
            "The environment whose hosts the router links to directly. It relays the names of all environments.",
            valueName: "name"),
        transform: utf8Text)
    var environment = ""

    @Option(
        help: ArgumentHelp("The name of the router in 'chanserv mesh', 'links' and its log lines.", valueName: "name"),
        transform: { name in
            if let problem = NodeName.problem(with: name) { throw ValidationError(problem) }
            return name
        })
    var name: String?

    @Option(help: ArgumentHelp("The lowest level to log.", valueName: "level"))
    var logLevel = Logger.Level.info

    @Option(help: ArgumentHelp("The log format: text, or json with one object per line.", valueName: "format"))
    var logFormat = LogFormat.text

    func validate() throws {
        if tls.isGiven, tls.tlsCert == nil, join.isEmpty {
            throw ValidationError("without --tls-cert and --tls-key the listeners have no TLS: give both")
        }
    }

    func run() async throws {
        let log = LineLogHandler.bootstrapSecondary(level: logLevel, format: logFormat)
        defer { log.flush() }
        var logger = Logger(label: "chanserv")
        if let name { logger[metadataKey: "node"] = "\(name)" }
        var node = HostConfiguration.Node()
        node.role = .router
        node.name = name
        let own = tls.own
        if own != nil, own?.certificate == nil {
            logger.warning("the listeners accept links without TLS: --tls-cert and --tls-key are not given")
        }
        node.listen = listen.map { ListenOptions($0, tls: $0.isUnix ? nil : listenerTLS(own)) }
        node.join = join.map { JoinOptions($0, tls: $0.isUnix ? nil : own) }
        node.environment = environment.isEmpty ? nil : environment
        let security: HostSecurity
        do {
            let files = try HostSecurity.read(node)
            for warning in files.warnings { logger.warning("\(warning)") }
            security = HostSecurity(files)
        } catch {
            for problem in error.errors { logger.critical("\(problem)") }
            throw ExitCode(HostError.Code.badConfiguration.exitCode)
        }
        do {
            try await RouterSession(
                node, security, logger: logger, log: log, manager: ServiceManager.fromEnvironment(logger: logger)
            ).run()
        } catch {
            for problem in error.problems { logger.critical("\(problem)") }
            throw ExitCode(error.code.exitCode)
        }
    }

    /// Returns the TLS of the listeners: with the certificate of the router, if it has one.
    private func listenerTLS(_ own: ClientTLSOptions?) -> ServerTLSOptions? {
        guard let certificate = own?.certificate, let key = own?.key else { return nil }
        var options = ServerTLSOptions(certificate: certificate, key: key)
        options.clientCA = own?.ca
        return options
    }
}

extension HostAddress {
    /// Whether the address is a Unix socket, which has no TLS.
    fileprivate var isUnix: Bool {
        if case .unix = self { true } else { false }
    }
}
