internal import HostConfiguration
internal import Logging
internal import PluginRuntime

/// The control socket of a host. It can be created again while connections to the old socket continue.
actor ControlSocket {
    private let path: String
    private let host: PluginHost
    private let threads: PluginThreads
    private let logger: Logger
    private var server: ControlServer
    /// Former servers whose files were removed, for as long as they have connections.
    private var former: [ControlServer] = []
    private var isStopped = false
    private var isAside = false

    /// Listens at `path`.
    ///
    /// - Parameters:
    ///   - threads: run the calls that block on the file system.
    ///   - replacesListener: whether to replace a socket at which another host listens.
    init(
        at path: String, host: PluginHost, threads: PluginThreads, logger: Logger, replacesListener: Bool
    ) async throws(ControlSocketError) {
        self.path = path
        self.host = host
        self.threads = threads
        self.logger = logger
        server = try await ControlServer.start(
            at: path, host: host, threads: threads, logger: logger, replacesListener: replacesListener)
    }

    /// Creates the control socket again if its file was removed. Otherwise a program that cleans up temporary files
    /// could lock the operator out until the host restarts. Connections to the old socket continue. Only one call may
    /// run at a time.
    func maintain() async {
        guard !isStopped, !isAside, await !server.isInPlace else { return }
        do throws(ControlSocketError) {
            let next = try await ControlServer.start(at: path, host: host, threads: threads, logger: logger)
            // The host may have stopped during the call.
            guard !isStopped else { return await next.stop() }
            server.releaseSocket()
            former.removeAll(where: \.hasEnded)
            former.append(server)
            server = next
            logger.warning("the control socket \(quoted(path)) was removed: created it again")
        } catch {
            logger.warning("the control socket was removed: \(error)")
        }
    }

    /// Moves the socket to its path with the process id at the end, so that another host can create its own. Connections
    /// continue.
    func moveAside() async {
        isAside = true
        if let place = await server.moveAside() {
            logger.info("the control socket of this process is now \(quoted(place))")
        }
    }

    /// Ends all connections and removes the socket.
    func stop() async {
        isStopped = true
        await server.stop()
        for server in former { await server.stop() }
        former = []
    }
}
