import ChanservHost
import Glibc
import HostConfiguration
import Logging

/// Runs a router from start to shutdown, controlled by signals.
struct RouterSession {
    private let node: HostConfiguration.Node
    private let security: HostSecurity
    private let logger: Logger
    private let log: LogWriter
    private let manager: ServiceManager?

    /// - Parameters:
    ///   - node: the addresses to listen on and to join.
    ///   - security: secures their links.
    ///   - logger: logs the start, the stop and the events of the node.
    ///   - log: is flushed before a forced exit.
    ///   - manager: the service manager, which receives the notifications; `nil` for none.
    init(
        _ node: HostConfiguration.Node, _ security: HostSecurity, logger: Logger, log: LogWriter,
        manager: ServiceManager?
    ) {
        self.node = node
        self.security = security
        self.manager = manager
        self.logger = logger
        self.log = log
    }

    /// Routes until a stop signal arrives.
    ///
    /// - Throws: ``HostError`` with code `unavailable` and one problem per address that the router cannot listen on.
    func run() async throws(HostError) {
        let (logger, log, manager) = (logger, log, manager)
        let (stops, stop) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let signals = await SignalHandling(
            onReload: {
                logger.info("ignored SIGHUP: a router has no configuration file to reload")
                // `systemctl reload` waits for these notifications.
                manager?.notifyReloading()
                manager?.tell(.ready(status: "routing"))
            },
            onStop: { stop.yield() },
            onImmediateEnd: {
                log.flush()
                _exit(0)
            },
            onUser: { signal in logger.warning("ignored \(signal.rawValue): use SIGTERM to stop") })
        defer { signals.cancel() }

        let network = AstraNetHostNetwork(node, logger: logger, listenKey: "--listen")
        network.use(security)
        let (listening, problems) = await listen(on: network)
        guard problems.isEmpty else {
            await network.shutdown()
            throw HostError(.unavailable, problems)
        }
        let joins = node.join.map { options in Task { await network.keepJoined(options.address) } }
        logger.info(
            "ready: listening on \(listening.map(\.description).joined(separator: ", ")), routing",
            metadata: network.hostID.map { ["host": "\($0)"] })

        manager?.tell(.ready(status: "routing"))
        let watchdog = Task { await manager?.keepWatchdog() }

        for await _ in stops { break }
        logger.info("stopping: closing all links")
        manager?.tell(.stopping(status: "stopping: closing all links"))
        for join in joins { join.cancel() }
        await network.shutdown()
        watchdog.cancel()
        await manager?.flush()
        logger.info("stopped")
    }

    private func listen(on network: AstraNetHostNetwork) async -> (listening: [HostAddress], problems: [String]) {
        var listening: [HostAddress] = []
        var problems: [String] = []
        for options in node.listen {
            do {
                listening.append(try await network.listen(at: options.address))
            } catch {
                problems.append("\(error)")
            }
        }
        return (listening, problems)
    }
}
