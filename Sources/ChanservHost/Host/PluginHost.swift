internal import Chanserv
internal import Glibc
public import HostConfiguration
public import Logging
internal import PluginRuntime

/// A running host: serves the routes of a configuration file with plugins, and replaces both while it runs.
///
/// ```swift
/// let host = Host(configurationFile: "chanserv.yaml", logger: logger)
/// try await host.start()
/// …
/// await host.reload()
/// await host.shutdown()
/// ```
///
/// A host is started once and shut down once. The state machines ``ReloadPlan``, ``ReloadTransaction``,
/// ``ReloadMachine`` and ``Generations`` decide; this actor performs their actions.
public actor PluginHost {
    let file: String
    /// The logger of the host; after the configuration was read, with the name of the node.
    private(set) var logger: Logger
    let makeNetwork: @Sendable (HostConfiguration.Node, Logger) -> any HostNetwork
    /// The threads for plugins that do not block, and for calls that block on the file system.
    let threads: PluginThreads
    let store: PluginStore
    /// chanserv's own executable. The host starts it for worker processes and to try libraries out.
    let program: String?
    /// The open requests, and the instance of each route.
    let table: ServingTable

    /// The configuration in force; `nil` before the start.
    package var configuration: HostConfiguration?
    /// The `node` section at the start. Except for `drain` it stays in force until a restart.
    var startedNode: HostConfiguration.Node?
    var network: (any HostNetwork)?
    var listening: [HostAddress] = []
    /// The service manager that started this process, e.g. systemd; it receives state changes.
    let manager: ServiceManager?
    var watchdog: Task<Void, Never>?
    /// The file of the access log; `nil` without one.
    var accessLog: AccessLogFile?
    let accessLogFormat: AccessLogFormat
    /// The control socket; `nil` if the configuration has none.
    var control: ControlServer?
    /// Former control sockets whose files were removed, for as long as they have connections.
    var formerControls: [ControlServer] = []
    var joins: [Task<Void, Never>] = []
    /// The routes in the order of the file.
    package var routes: [RunningRoute] = []
    var instances: [InstanceKey: RunningInstance] = [:]
    /// Instances that no route uses, until they are destroyed.
    var retiring: [InstanceID: (instance: RunningInstance, task: Task<Void, Never>)] = [:]
    /// Removed routes, until their requests have ended.
    var leaving: [RouteID: Task<Void, Never>] = [:]
    /// The running drains, by route.
    var drains: [RouteID: Task<DrainOutcome, Never>] = [:]
    private var lastID: UInt64 = 0

    /// The drop-ins and their states.
    var dropIns = DropInTable()
    /// The cause of the reload that follows the one that runs.
    var nextCause = ReloadCause.folder
    /// Watches the drop-in folder; `nil` if there is none or it is not to be watched.
    var folderWatch: FolderWatch?

    var machine = ReloadMachine()
    var reloadCounts = HostStatus.Reloads(changed: 0, unchanged: 0, refused: 0)
    /// The last dry run, which the next one waits for.
    var lastDryRun: Task<ReloadOutcome, Never>?
    var lastReload: (outcome: ReloadOutcome, time: ContinuousClock.Instant)?
    var readySince: ContinuousClock.Instant?
    /// The callers that wait for each reload, by its number.
    package var waiters: [UInt64: [CheckedContinuation<ReloadOutcome, Never>]] = [:]
    /// Happens when the reload that runs during the shutdown has ended.
    let lastReloadEnded = OneTimeEvent()
    let stopped = OneTimeEvent()
    /// What this process inherits from the service manager and from the host that it replaces.
    var inheritance = HostInheritance()
    /// The replacement of this host by another process.
    var replacement = HostReplacement()
    /// Happens when another process has taken over.
    let handedOver = OneTimeEvent()
    /// The start and the drain time of the stop in progress.
    var stopping: (began: ContinuousClock.Instant, drain: Duration)?

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
        file = configurationFile
        self.logger = logger
        self.program = program
        self.manager = manager
        self.accessLogFormat = accessLogFormat
        makeNetwork = network
        threads = PluginThreads(name: "plugin", limit: PluginThreads.defaultSharedLimit)
        store = PluginStore(threads: threads, logger: logger)
        table = ServingTable(open: OpenRequests(surroundings: .system))
    }

    var tools: Preparation.Tools { Preparation.Tools(store: store, program: program) }

    func nextID() -> UInt64 {
        lastID += 1
        return lastID
    }

    // MARK: - Start

    /// Reads the configuration, loads the plugins, creates their instances and binds the routes. Listens only after
    /// that.
    ///
    /// - Throws: ``HostError`` with all errors; then nothing runs and nothing is bound. The code is `badConfiguration`
    ///   for errors of the file and of plugins. It is `unavailable` for an address, and if the only errors are missing
    ///   resources and timeouts.
    public func start() async throws(HostError) {
        precondition(configuration == nil && network == nil, "a host starts once")
        guard case .begin(let number) = machine.requested() else {
            throw HostError(.internalFailure, ["the host was shut down before it started"])
        }
        startWatchdog()
        let failure = await startUp()
        await reloadEnded(
            number,
            failure == nil
                ? ReloadOutcome(.changed, generation: table.generation)
                : .refused(["the host did not start"], generation: table.generation))
        if let failure { throw failure }
    }

    private func startUp() async -> HostError? {
        closeDescriptorsOnExec()
        let configuration: HostConfiguration
        do throws(ConfigurationErrors) {
            configuration = try await readConfiguration()
        } catch {
            return HostError(.badConfiguration, error.errors.map(\.description))
        }
        if let name = configuration.node.name { logger[metadataKey: "node"] = "\(name)" }
        warn(configuration.warnings.map(\.description))
        do throws(ConfigurationError) {
            use(try await openAccessLog(of: configuration))
        } catch {
            return HostError(.badConfiguration, [error.description])
        }
        let network = makeNetwork(configuration.node, logger)
        self.network = network

        let preparation = await Preparation(configuration, tools: tools)
        warn(preparation.warnings)
        let applied = await apply(configuration, preparation)
        switch applied.result {
        case .done: break
        case .refused(let refusal):
            await tearDown(deadline: .now)
            return HostError(refusal.isTemporary ? .unavailable : .badConfiguration, refusal.reasons)
        }
        record(applied, configuration)
        if configuration.dropIn?.strict == true, !dropIns.rejections.isEmpty {
            await tearDown(deadline: .now)
            return HostError(dropIns.isTemporary ? .unavailable : .badConfiguration, dropIns.rejections)
        }
        watchDropIns(configuration.dropIn)
        self.configuration = configuration
        startedNode = configuration.node
        if let problem = await listen(configuration.node, on: network) {
            await tearDown(deadline: .now)
            return problem
        }
        joins = configuration.node.join.map { address in Task { await network.keepJoined(address) } }
        var work = configuration.node.role == .router ? ["routing"] : []
        readySince = .now
        let served = routes.map(\.planned.vAddr).joined(separator: ", ")
        if !served.isEmpty || work.isEmpty { work.append("serving \(served.isEmpty ? "nothing" : served)") }
        let addresses = listening.map(\.description).joined(separator: ", ")
        var metadata: Logger.Metadata = ["generation": .stringConvertible(table.generation)]
        metadata["host"] = network.hostID.map { "\($0)" }
        logger.info("ready: listening on \(addresses), \(work.joined(separator: " and "))", metadata: metadata)
        tellServing(isReady: true)
        return nil
    }

    /// - Parameter dropInsOf: the configuration whose drop-ins alone are read again; `nil` to read everything.
    func readConfiguration(
        dropInsOf configuration: HostConfiguration? = nil
    ) async throws(ConfigurationErrors) -> HostConfiguration {
        // Reading blocks on the file system, so it must not run on an event loop or in Swift's thread pool.
        let file = file
        let own = routes.map(\.planned).filter { dropIns.contains($0.instance.plugin) }
        let owners = Dictionary(uniqueKeysWithValues: own.map { ($0.vAddr, $0.instance.plugin) })
        return try await threads.run { () -> Result<HostConfiguration, ConfigurationErrors> in
            do throws(ConfigurationErrors) {
                guard let configuration else {
                    return .success(try HostConfiguration.read(file, dropInOwners: owners))
                }
                return .success(try configuration.rereadingDropIns(owners: owners))
            } catch {
                return .failure(error)
            }
        }.get()
    }

    func warn(_ warnings: [String]) {
        for warning in warnings { logger.warning("\(warning)") }
    }

    // MARK: - Status

    /// The links to other nodes, the oldest first.
    public var links: [HostLink] { network?.links ?? [] }

    /// A snapshot of what the host is doing.
    public var status: HostStatus {
        let serving = routes.compactMap { instances[$0.planned.instance] }
        var seen: Set<InstanceID> = []
        let current = serving.filter { seen.insert($0.id).inserted }
        let draining = retiring.sorted { $0.key < $1.key }.map(\.value.instance)
        let requests = table.open.countByGeneration
        return HostStatus(
            pid: getpid(), host: network?.hostID, name: startedNode?.name, listening: listening.map(\.description),
            uptimeMilliseconds: readySince?.duration(to: .now).wholeMilliseconds ?? 0, generation: table.generation,
            requestsByGeneration: requests.sorted { $0.key < $1.key }.map {
                HostStatus.Generation(generation: $0.key, requests: $0.value)
            },
            routes: routes.map(HostStatus.Route.init),
            plugins: current.map { HostStatus.Plugin($0, in: table.open, isDraining: false) }
                + draining.map { HostStatus.Plugin($0, in: table.open, isDraining: true) },
            dropIns: dropIns.entries.sorted { $0.key < $1.key }.map { HostStatus.DropIn($0.key, $0.value) },
            retained: HostStatus.Retained(copies: store.statistics.copies, bytes: store.statistics.bytes),
            reloads: reloadCounts,
            accessLog: accessLog.map {
                HostStatus.AccessLog(path: $0.path, written: $0.counts.written, lost: $0.counts.lost)
            },
            lastReload: lastReload.map {
                HostStatus.LastReload(
                    ageMilliseconds: $0.time.duration(to: .now).wholeMilliseconds, outcome: $0.outcome)
            },
            stopping: stopping.map {
                HostStatus.Stopping(
                    elapsedMilliseconds: $0.began.duration(to: .now).wholeMilliseconds,
                    drainMilliseconds: $0.drain.wholeMilliseconds, requestsOpen: requests.values.reduce(0, +),
                    successor: replacement.machine.successor)
            })
    }
}
