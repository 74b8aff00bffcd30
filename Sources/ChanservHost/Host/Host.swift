internal import Chanserv
public import Logging

/// A running host: routes of a configuration file, served by plugins, replaced while they run.
///
/// ```swift
/// let host = Host(configurationFile: "chanserv.yaml", logger: logger)
/// try await host.start()
/// …
/// await host.reload()
/// await host.shutdown()
/// ```
///
/// A host is started once and shut down once. What it does to which part of it when is decided by ``ReloadPlan``,
/// ``ReloadTransaction``, ``ReloadMachine`` and ``Generations``; this only carries it out.
public actor Host {
    let file: String
    let logger: Logger
    let makeNetwork: @Sendable (HostConfiguration.Node, Logger) -> any HostNetwork
    /// Where ordinary plugins run, and what blocks on files.
    let threads: PluginThreads
    let store: PluginStore
    /// chanserv's own executable, which is started for plugins that have processes and to try libraries out.
    let program: String?
    /// The open requests, and where new ones are led.
    let table: ServingTable

    /// What runs; `nil` before the start.
    var configuration: HostConfiguration?
    /// What of `node` is in force since the start.
    var startedNode: HostConfiguration.Node?
    var network: (any HostNetwork)?
    var listening: [HostAddress] = []
    /// Who started this process, and wants to know how it is.
    let manager: ServiceManager?
    var watchdog: Task<Void, Never>?
    /// Where commands come in; `nil` where the configuration names no socket.
    var control: ControlServer?
    /// Those before it, whose sockets were removed by somebody, as long as clients have connections to them.
    var formerControls: [ControlServer] = []
    var joins: [Task<Void, Never>] = []
    /// In the order of the file.
    var routes: [RunningRoute] = []
    var instances: [InstanceKey: RunningInstance] = [:]
    /// Instances no route names any more, until they are destroyed.
    var retiring: [InstanceID: (instance: RunningInstance, task: Task<Void, Never>)] = [:]
    /// Routes that were removed, until their requests have ended.
    var leaving: [RouteID: Task<Void, Never>] = [:]
    /// Routes that were told to drain, until they have.
    var drains: [RouteID: Task<DrainOutcome, Never>] = [:]
    private var lastID: UInt64 = 0

    var machine = ReloadMachine()
    var reloadCounts = HostStatus.Reloads()
    var lastReload: (outcome: ReloadOutcome, time: ContinuousClock.Instant)?
    var readySince: ContinuousClock.Instant?
    /// Who waits for the outcome of which reload.
    var waiters: [UInt64: [CheckedContinuation<ReloadOutcome, Never>]] = [:]
    /// The reload that ran when the shutdown began has ended.
    let lastReloadEnded = Event()
    let stopped = Event()

    /// - Parameters:
    ///   - configurationFile: read at the start and at each reload; see ``HostConfiguration``.
    ///   - logger: gets a line when the host is ready, one for each reload, one for each failure, and what plugins log.
    ///   - program: the `chanserv` executable, which is started for plugins with `isolation: process` and to try libraries
    ///     out before they are loaded; `nil`, the default, does neither.
    ///   - manager: is told when the host is ready, reloads and stops. None by default.
    public init(configurationFile: String, logger: Logger, program: String? = nil, manager: ServiceManager? = nil) {
        self.init(configurationFile: configurationFile, logger: logger, program: program, manager: manager) {
            AstraNetHostNetwork($0, logger: $1)
        }
    }

    /// As ``init(configurationFile:logger:program:manager:)``, on a network of the caller's.
    ///
    /// - Parameter network: called once at the start, with what stands under `node`.
    public init(
        configurationFile: String, logger: Logger, program: String? = nil, manager: ServiceManager? = nil,
        network: @escaping @Sendable (HostConfiguration.Node, Logger) -> any HostNetwork
    ) {
        file = configurationFile
        self.logger = logger
        self.program = program
        self.manager = manager
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

    /// Reads the configuration, loads the plugins, makes their instances, binds the routes, and only then listens.
    ///
    /// - Throws: ``HostError`` with everything that is wrong; then nothing runs and nothing is bound. With code
    ///   `badConfiguration` for the file and the plugins, `unavailable` for an address, and where all that is wrong is that
    ///   something was not to be had or took too long.
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
        let configuration: HostConfiguration
        do throws(ConfigurationErrors) {
            configuration = try await readConfiguration()
        } catch {
            return HostError(.badConfiguration, error.errors.map(\.description))
        }
        warn(configuration.warnings.map(\.description))
        let network = makeNetwork(configuration.node, logger)
        self.network = network

        let preparation = await Preparation(configuration, tools: tools)
        let plan = ReloadPlan(running: [], wanted: preparation.routes)
        switch await carryOut(plan, preparation) {
        case .done: break
        case .refused(let reasons, let mayPass):
            await tearDown(deadline: .now)
            return HostError(mayPass ? .unavailable : .badConfiguration, reasons)
        }
        self.configuration = configuration
        startedNode = configuration.node
        if let problem = await listen(configuration.node, on: network) {
            await tearDown(deadline: .now)
            return problem
        }
        joins = configuration.node.join.map { address in Task { await network.keepJoined(address) } }
        var work = configuration.node.role == .router ? ["routing"] : []
        readySince = .now
        let served = configuration.routes.map(\.vAddr).joined(separator: ", ")
        if !served.isEmpty || work.isEmpty { work.append("serving \(served.isEmpty ? "nothing" : served)") }
        logger.info(
            "ready: listening on \(listening.map(\.description).joined(separator: ", ")), \(work.joined(separator: " and "))",
            metadata: ["generation": "\(table.generation)"])
        tellServing(isReady: true)
        return nil
    }

    private func listen(_ node: HostConfiguration.Node, on network: any HostNetwork) async -> HostError? {
        var problems: [String] = []
        for address in node.listen {
            do {
                listening.append(try await network.listen(at: address))
            } catch {
                let place = node.listenLocations[address] ?? ConfigurationLocation(file: file)
                problems.append("\(place): \(error)")
            }
        }
        if let path = node.control {
            do throws(ControlSocketError) {
                control = try await ControlServer.start(at: path, host: self, threads: threads, logger: logger)
            } catch {
                problems.append("\(node.controlLocation ?? ConfigurationLocation(file: file)): \(error)")
            }
        }
        return problems.isEmpty ? nil : HostError(.unavailable, problems)
    }

    func readConfiguration() async throws(ConfigurationErrors) -> HostConfiguration {
        // Reading blocks on the file system, which neither an event loop nor Swift's pool is for.
        let file = file
        return try await threads.run { () -> Result<HostConfiguration, ConfigurationErrors> in
            do throws(ConfigurationErrors) {
                return .success(try HostConfiguration.read(file))
            } catch {
                return .failure(error)
            }
        }.get()
    }

    func warn(_ warnings: [String]) {
        for warning in warnings { logger.warning("\(warning)") }
    }

    // MARK: - Status

    /// What the host is doing.
    public var status: HostStatus {
        let serving = routes.compactMap { instances[$0.planned.instance] }
        var seen: Set<InstanceID> = []
        let current = serving.filter { seen.insert($0.id).inserted }
        let draining = retiring.sorted { $0.key < $1.key }.map(\.value.instance)
        return HostStatus(
            listening: listening, generation: table.generation, requestsByGeneration: table.open.countByGeneration,
            routes: routes.map {
                HostStatus.Route(
                    vAddr: $0.planned.vAddr, plugin: $0.planned.instance.plugin, digest: $0.planned.instance.digest,
                    state: $0.service.state, counters: $0.service.counters)
            },
            instances: current.map { HostStatus.Instance($0, in: table.open, isDraining: false) }
                + draining.map { HostStatus.Instance($0, in: table.open, isDraining: true) },
            retainedCopies: store.statistics.copies, retainedBytes: store.statistics.bytes, reloads: reloadCounts,
            lastReload: lastReload.map { HostStatus.LastReload(outcome: $0.outcome, age: $0.time.duration(to: .now)) },
            uptime: readySince.map { $0.duration(to: .now) })
    }
}
