internal import Chanserv
internal import Glibc
public import HostConfiguration
public import Logging
internal import PluginRuntime

/// A running host: serves the routes of a configuration file with plugins, and replaces both while it runs.
///
/// ```swift
/// let host = PluginHost(configurationFile: "chanserv.yaml", logger: logger)
/// try await host.start()
/// …
/// await host.reload()
/// await host.shutdown()
/// ```
///
/// A host is started once and shut down once. This actor decides when the host starts, reloads and stops.
/// ``ConfigurationApplier`` reads and applies the configuration, and ``RouteSet`` runs the routes and their instances.
public actor PluginHost {
    /// The logger of the host; after the configuration was read, with the name of the node.
    private var logger: Logger
    private let makeNetwork: @Sendable (HostConfiguration.Node, Logger) -> any HostNetwork
    /// The threads for plugins that do not block, and for calls that block on the file system.
    let threads: PluginThreads
    let tools: Preparation.Tools
    package let routes: RouteSet
    package let applier: ConfigurationApplier
    let accessLog: AccessLog
    private let notifier: ServiceNotifier
    /// The replacement of this host by another process.
    package let replacement: HostReplacement

    private var network: (any HostNetwork)?
    private var listening: [HostAddress] = []
    private var joins: [Task<Void, Never>] = []
    /// The control socket; `nil` if the configuration has none.
    private var control: ControlSocket?
    private var readySince: ContinuousClock.Instant?

    /// Orders the start, the reloads and the stop.
    private var machine = ReloadMachine()
    /// The cause of the reload that follows the one that runs.
    private var nextCause = ReloadCause.folder
    /// The callers that wait for each reload, by its number.
    package private(set) var waiters: [UInt64: [CheckedContinuation<ReloadOutcome, Never>]] = [:]
    private var history = ReloadHistory()
    /// The last dry run, which the next one waits for.
    private var lastDryRun: Task<ReloadOutcome, Never>?
    /// Happens when the reload that runs during the shutdown has ended.
    private let lastReloadEnded = OneTimeEvent()
    private let stopped = OneTimeEvent()
    /// The start and the drain time of the stop in progress.
    private var stopping: (began: ContinuousClock.Instant, drain: Duration)?

    /// - Parameters:
    ///   - configurationFile: the path of the file, which is read at the start and at each reload; see
    ///     ``HostConfiguration``.
    ///   - logger: receives a line when the host is ready, one for each reload and one for each failure, and the
    ///     messages of plugins.
    ///   - program: the `chanserv` executable. The host starts it for plugins with `isolation: process`, and to try
    ///     libraries out before it loads them. `nil`, the default, does neither.
    ///   - manager: receives the states ready, reloading and stopping. None by default.
    ///   - accessLogFormat: the format of the file of `log.access`.
    public init(
        configurationFile: String, logger: Logger, program: String? = nil, manager: ServiceManager? = nil,
        accessLogFormat: AccessLogFormat = .text
    ) {
        self.init(
            configurationFile: configurationFile, logger: logger, program: program, manager: manager,
            accessLogFormat: accessLogFormat
        ) {
            AstraNetHostNetwork($0, logger: $1)
        }
    }

    /// As ``init(configurationFile:logger:program:manager:accessLogFormat:)``, with a network of the caller.
    ///
    /// - Parameter network: called once at the start with the `node` section.
    public init(
        configurationFile: String, logger: Logger, program: String? = nil, manager: ServiceManager? = nil,
        accessLogFormat: AccessLogFormat = .text,
        network: @escaping @Sendable (HostConfiguration.Node, Logger) -> any HostNetwork
    ) {
        self.logger = logger
        makeNetwork = network
        threads = PluginThreads(name: "plugin", limit: PluginThreads.defaultSharedLimit)
        tools = Preparation.Tools(store: PluginStore(threads: threads, logger: logger), program: program)
        notifier = ServiceNotifier(manager)
        replacement = HostReplacement(notifier, logger: logger)
        let open = OpenRequests(surroundings: .system)
        accessLog = AccessLog(open.log, format: accessLogFormat, threads: threads)
        routes = RouteSet(
            open: open, factory: InstanceFactory(threads: threads, program: program), notifier: notifier,
            logger: logger)
        applier = ConfigurationApplier(
            file: configurationFile, tools: tools, threads: threads, routes: routes, accessLog: accessLog,
            logger: logger)
    }

    // MARK: - Start

    /// Reads the configuration, loads the plugins, creates their instances and binds the routes. Listens only after
    /// that.
    ///
    /// - Throws: ``HostError`` with all errors; then nothing runs and nothing is bound. The code is `badConfiguration`
    ///   for errors of the file and of plugins. It is `unavailable` for an address, and if the only errors are missing
    ///   resources and timeouts.
    public func start() async throws(HostError) {
        try await start(inheriting: HostInheritance())
    }

    /// Starts as ``start()`` does, with what this process inherits.
    package func start(inheriting inheritance: HostInheritance) async throws(HostError) {
        precondition(network == nil, "a host starts once")
        guard case .begin(let number) = machine.requested() else {
            throw HostError(.internalFailure, ["the host was shut down before it started"])
        }
        // The task runs until the host has shut down. It does not keep the host alive.
        notifier.startWatchdog { [weak self] in await self?.isResponsive ?? false }
        var failure: HostError?
        do throws(HostError) {
            try await startUp(inheriting: inheritance)
        } catch {
            failure = error
            await tearDown(deadline: .now)
        }
        await reloadEnded(
            number,
            failure == nil
                ? ReloadOutcome(.changed, generation: routes.generation)
                : refused("the host did not start"))
        if let failure { throw failure }
    }

    private func startUp(inheriting inheritance: HostInheritance) async throws(HostError) {
        closeDescriptorsOnExec()
        let configuration: HostConfiguration
        do throws(ConfigurationErrors) {
            configuration = try await applier.read()
        } catch {
            throw HostError(.badConfiguration, error.errors.map(\.description))
        }
        let node = configuration.node
        if let name = node.name { logger[metadataKey: "node"] = "\(name)" }
        let network = makeNetwork(node, logger)
        self.network = network
        await routes.start(on: network.multiplexer, logger: logger)
        try await applier.secure(network as? any SecurableNetwork, configuration)
        try await applier.start(configuration, logger: logger) { [weak self] in
            Task { await self?.reload(because: .folder) }
        }
        let opening = HostOpening(
            node: node, file: applier.file, network: network, threads: threads, logger: logger)
        (listening, control) = try await opening.open(for: self, inheriting: inheritance)
        joins = node.join.map { options in Task { await network.keepJoined(options.address) } }
        readySince = .now
        var work = node.role == .router ? ["routing"] : []
        let served = await routes.planned.map(\.vAddr).joined(separator: ", ")
        if !served.isEmpty || work.isEmpty { work.append("serving \(served.isEmpty ? "nothing" : served)") }
        let addresses = listening.map(\.description).joined(separator: ", ")
        var metadata: Logger.Metadata = ["generation": .stringConvertible(routes.generation)]
        metadata["host"] = network.hostID.map { "\($0)" }
        logger.info("ready: listening on \(addresses), \(work.joined(separator: " and "))", metadata: metadata)
        await routes.notifyServing(isReady: true)
        await replacement.ready(network, control, logger: logger)
    }

    /// Always `true`. The watchdog reads it; the read ends only if this actor and that of the routes respond.
    private var isResponsive: Bool {
        get async {
            _ = await routes.planned.isEmpty
            return true
        }
    }

    // MARK: - Reload

    /// Reads the configuration and the plugins again and applies all changes. If anything is wrong, applies none.
    /// Unchanged routes and instances are not touched, and no dial fails because of a reload.
    ///
    /// Calls that arrive during a reload share the one that follows it.
    ///
    /// - Parameter force: serve versions of plugins again that were rolled back. Without it a route keeps the version to
    ///   which it has returned until the plugin or its configuration changes.
    /// - Returns: the changes, or the reasons why there are none. The log contains the same.
    @discardableResult
    public func reload(force: Bool = false) async -> ReloadOutcome {
        await reload(because: .request(isForced: force))
    }

    @discardableResult
    private func reload(because cause: ReloadCause) async -> ReloadOutcome {
        switch machine.requested() {
        case .refuse:
            return refused("the host is stopping")
        case .awaitReload(let number):
            nextCause = nextCause.combined(with: cause)
            return await withCheckedContinuation { waiters[number, default: []].append($0) }
        case .begin(let number):
            let outcome = await reloadOnce(because: cause)
            await reloadEnded(number, outcome)
            return outcome
        }
    }

    /// Resumes the callers of a reload, and begins the next one if it was requested meanwhile.
    private func reloadEnded(_ number: UInt64, _ outcome: ReloadOutcome) async {
        for waiter in waiters.removeValue(forKey: number) ?? [] { waiter.resume(returning: outcome) }
        switch machine.finished() {
        case .rest: break
        case .begin(let next):
            // In a new task, so that callers of the previous reload do not wait for this one.
            let cause = nextCause
            nextCause = .folder
            Task { await reloadEnded(next, await reloadOnce(because: cause)) }
        case .stop:
            for waiter in waiters.values.joined() { waiter.resume(returning: refused("the host is stopping")) }
            waiters = [:]
            lastReloadEnded.happened()
        }
    }

    /// Carries out a reload. ``ReloadMachine`` runs one at a time.
    private func reloadOnce(because cause: ReloadCause) async -> ReloadOutcome {
        // A change of the folder is often none of the drop-ins, e.g. a file that was touched.
        let (what, quiet): (String, Logger.Level) =
            switch cause {
            case .request: (applier.file, .info)
            case .folder: ("the drop-ins", .debug)
            }
        logger.log(level: quiet, "reloading \(what)", metadata: generationMetadata(routes.generation))
        notifier.reloading()
        switch cause {
        case .request: accessLog.reopen()
        case .folder: break
        }
        await control?.maintain()
        let outcome = await applier.reload(because: cause)
        // A change of the folder that changes nothing is no event for operators.
        if cause != .folder || outcome.result != .unchanged {
            history.record(outcome)
            notifier.reloadEnded(isRefused: outcome.result == .refused)
        }
        // The host serves after a refused reload too.
        await routes.notifyServing(isReady: true)
        for warning in outcome.warnings + outcome.rolledBack { logger.warning("\(warning)") }
        let metadata = generationMetadata(outcome.generation)
        switch outcome.result {
        case .unchanged: logger.log(level: quiet, "reload: \(outcome.unchangedText)", metadata: metadata)
        case .changed: logger.info("reload: \(outcome.changes)", metadata: metadata)
        case .refused:
            for reason in outcome.reasons { logger.error("reload: \(reason)") }
            logger.error("reload refused; still serving generation \(outcome.generation)", metadata: metadata)
        }
        return outcome
    }

    private func generationMetadata(_ generation: UInt64) -> Logger.Metadata {
        ["generation": .stringConvertible(generation)]
    }

    private func refused(_ reason: String) -> ReloadOutcome { .refused([reason], generation: routes.generation) }

    /// Examines what a reload would do: reads the configuration and the plugins, and tries new instances out in
    /// short-lived processes. Changes nothing.
    ///
    /// Dry runs wait for each other.
    ///
    /// - Returns: the outcome that a reload would have.
    func dryRunReload(force: Bool = false) async -> ReloadOutcome {
        let previous = lastDryRun
        let dryRun = Task {
            _ = await previous?.value
            var outcome =
                machine.isStopping
                ? refused("the host is stopping")
                : await applier.reload(because: .request(isForced: force), isDryRun: true)
            outcome.dryRun = true
            logger.info("dry run: \(outcome.text)", metadata: generationMetadata(outcome.generation))
            return outcome
        }
        lastDryRun = dryRun
        return await dryRun.value
    }

    // MARK: - Routes

    /// Withdraws a route's vAddr from the mesh, so that clients find another host, and waits for its requests to end.
    /// Cancels the requests that have not ended after the route's `drain` time. The route stays configured but
    /// withdrawn, also after reloads, until ``enable(_:)`` or a restart.
    ///
    /// A second drain of the same route waits for the end of the first. If the route has already drained, it returns at
    /// once.
    ///
    /// - Throws: ``RouteError`` if there is no such route, or the host is stopping.
    public func drain(_ vAddr: String) async throws(RouteError) -> DrainOutcome {
        let task = try await beginDrain(vAddr)
        return await task.value
    }

    /// Begins a drain as in ``drain(_:)`` and returns its task. Cancelling the caller does not stop the drain.
    package func beginDrain(_ vAddr: String) async throws(RouteError) -> Task<DrainOutcome, Never> {
        try await routes.beginDrain(vAddr)
    }

    /// Returns a route to the mesh that was drained, or withdrawn by its error mass, and resets its error mass.
    ///
    /// - Returns: whether the route was withdrawn.
    /// - Throws: ``RouteError`` if there is no such route, or the host is stopping.
    @discardableResult
    public func enable(_ vAddr: String) async throws(RouteError) -> Bool {
        try await routes.enable(vAddr)
    }

    /// Returns a route on probation to the version before (`deploy.probation`).
    ///
    /// - Returns: the version that serves the route now: the plugin's name and the first digits of its digest.
    /// - Throws: ``RouteError`` if there is no such route, it has no version that is ready, or a reload runs.
    @discardableResult
    public func rollBack(_ vAddr: String) async throws(RouteError) -> String {
        try await routes.endProbation(of: vAddr, rollsBack: true).description
    }

    /// Ends the probation of a route: its new version stays, and the version before is destroyed.
    ///
    /// - Returns: the version that serves the route: the plugin's name and the first digits of its digest.
    /// - Throws: ``RouteError`` if there is no such route, it is not on probation, or a reload runs.
    @discardableResult
    public func promote(_ vAddr: String) async throws(RouteError) -> String {
        try await routes.endProbation(of: vAddr, rollsBack: false).description
    }

    // MARK: - Status

    /// The links to other nodes, the oldest first.
    public var links: [HostLink] { network?.links ?? [] }

    /// A snapshot of what the host is doing.
    public var status: HostStatus {
        get async {
            // The routes are read last, so that they contain each reload that the history contains.
            let (history, stopping) = (history, stopping)
            let configured = await applier.status
            let routes = await routes.status
            return HostStatus(
                pid: getpid(), host: network?.hostID, name: configured.name,
                listening: listening.map(\.description),
                uptimeMilliseconds: readySince?.duration(to: .now).wholeMilliseconds ?? 0,
                generation: routes.generation, requestsByGeneration: routes.requestsByGeneration,
                routes: routes.routes, plugins: routes.plugins, dropIns: configured.dropIns,
                certificates: configured.certificates, linkRefusals: network?.linkRefusals,
                retained: HostStatus.Retained(
                    copies: tools.store.statistics.copies, bytes: tools.store.statistics.bytes),
                reloads: history.counts, accessLog: accessLog.status, lastReload: history.lastReload,
                stopping: stopping.map { [successor = await replacement.successor] in
                    HostStatus.Stopping(
                        elapsedMilliseconds: $0.began.duration(to: .now).wholeMilliseconds,
                        drainMilliseconds: $0.drain.wholeMilliseconds,
                        requestsOpen: routes.requestsByGeneration.reduce(0) { $0 + $1.requests },
                        successor: successor)
                })
        }
    }

    // MARK: - Shutdown

    /// Stops accepting requests and waits for running ones. At the deadline cancels the rest, destroys all instances
    /// and closes all links. Cancelling the waiting task ends the wait like the deadline. A second call waits for the
    /// first.
    ///
    /// If the host is still starting, there are no requests. The host undoes what it has created, and a running
    /// `create` of a plugin has until the deadline to return.
    ///
    /// - Parameter drain: time for running requests. `nil`, the default, uses `node.drain` of the configuration (30 s
    ///   by default), or 1 s while the host is starting.
    public func shutdown(drain: Duration? = nil) async {
        // From here on no reload begins, and no other call gets past this switch.
        switch machine.stop() {
        case .doNothing:
            return await stopped.wait()
        case .stop:
            lastReloadEnded.happened()
        case .giveUp: break
        }
        let configured = await applier.drainTime
        let drain = drain ?? configured
        let deadline = ContinuousClock.now + drain
        stopping = (.now, drain)
        let time = ValueGrammar.text(drain)
        let successor = await replacement.stop()
        if let successor {
            logger.info("process \(successor) serves now; up to \(time) for the requests that run here")
            await HostReplacement.waitForClientsToMove(until: deadline)
        } else {
            logger.info("stopping: no new requests, up to \(time) for running ones")
            notifier.stopping(status: "stopping: up to \(time) for requests that run")
        }
        // Before the wait for the reload, so that no new request is accepted meanwhile.
        await routes.stopAccepting()
        if successor != nil { (network as? any ReplaceableNetwork)?.closeIdleLinks() }
        if await !lastReloadEnded.wait(until: deadline) {
            logger.warning("the start or reload did not end in time: a plugin's create function does not return")
        }
        await tearDown(deadline: deadline, drain: drain)
        logger.info("stopped")
    }

    /// Ends all routes, instances and links. It may run twice, for a failed start and for the shutdown.
    private func tearDown(deadline: ContinuousClock.Instant, drain: Duration? = nil) async {
        await applier.stop()
        await routes.tearDown(deadline: deadline, drain: drain)
        if await replacement.successor != nil {
            await HostReplacement.waitForRouters(until: deadline)
            await (network as? any ReplaceableNetwork)?.waitForForwardedStreams(until: deadline)
        }
        // Before the end of the joins, which closes their links at once: the last bytes of requests that came over them
        // may not have been sent.
        await network.take()?.shutdown()
        for join in joins { join.cancel() }
        joins = []
        await accessLog.flush()
        // Last, so that operators can watch the shutdown.
        await control.take()?.stop()
        await notifier.stop()
        threads.retire()
        stopped.happened()
    }
}
