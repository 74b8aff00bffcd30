internal import AstraNet
package import HostConfiguration
internal import Logging
internal import PluginRuntime

/// Reads the configuration of a host and applies it to the routes, the drop-ins and the access log.
///
/// The caller runs at most one ``start(_:logger:onFolderChange:)`` or ``reload(because:isDryRun:)`` at a time. Dry runs
/// may run beside it, because they change nothing here.
package actor ConfigurationApplier {
    /// The path of the configuration file.
    nonisolated let file: String
    private let tools: Preparation.Tools
    /// The threads for calls that block on the file system.
    private let threads: PluginThreads
    private let routes: RouteSet
    private let accessLog: AccessLog
    private var logger: Logger

    /// The network whose links are secured and restricted; `nil` if it has none.
    private var network: (any SecurableNetwork)?
    /// The certificates in use; `nil` before the start.
    private(set) var security: HostSecurity?
    /// The configuration in force; `nil` before the start.
    package private(set) var configuration: HostConfiguration?
    /// The `node` section at the start. Except for `drain` it stays in force until a restart.
    private var startedNode: HostConfiguration.Node?
    /// The drop-ins and their states.
    private var dropIns = DropInTable()
    /// Watches the drop-in folder; `nil` if there is none or it is not to be watched.
    private var folderWatch: FolderWatch?
    private var onFolderChange: @Sendable () -> Void = {}

    init(
        file: String, tools: Preparation.Tools, threads: PluginThreads, routes: RouteSet, accessLog: AccessLog,
        logger: Logger
    ) {
        self.file = file
        self.tools = tools
        self.threads = threads
        self.routes = routes
        self.accessLog = accessLog
        self.logger = logger
    }

    // MARK: - Read

    /// Reads the configuration file.
    func read() async throws(ConfigurationErrors) -> HostConfiguration {
        try await read { (file, owners) throws(ConfigurationErrors) in
            try HostConfiguration.read(file, dropInOwners: owners)
        }
    }

    private func read(
        _ body: @escaping @Sendable (String, [String: String]) throws(ConfigurationErrors) -> HostConfiguration
    ) async throws(ConfigurationErrors) -> HostConfiguration {
        let file = file
        let own = await routes.planned.filter { dropIns.contains($0.instance.plugin) }
        let owners = Dictionary(uniqueKeysWithValues: own.map { ($0.vAddr, $0.instance.plugin) })
        // Reading blocks on the file system, so it must not run on an event loop or in Swift's thread pool.
        return try await threads.run { () -> Result<HostConfiguration, ConfigurationErrors> in
            do throws(ConfigurationErrors) {
                return .success(try body(file, owners))
            } catch {
                return .failure(error)
            }
        }.get()
    }

    // MARK: - Security

    /// Reads the certificates of a configuration, and secures and restricts the links of the network. Called once, before
    /// the network listens.
    ///
    /// - Throws: ``HostError`` with all errors of the files.
    func secure(
        _ network: (any SecurableNetwork)?, _ configuration: HostConfiguration
    ) async throws(HostError) {
        let isSecured =
            configuration.node.listen.contains { $0.tls != nil } || configuration.node.join.contains { $0.tls != nil }
        if network == nil, isSecured || configuration.access != nil {
            throw HostError(
                .badConfiguration, ["\(file): the network of this program has neither TLS nor access rules"])
        }
        do throws(ConfigurationErrors) {
            let files = try await readCertificates(configuration.node)
            let security = HostSecurity(files)
            warn(files.warnings)
            network?.use(security)
            network?.use(configuration.access.map { AccessRules($0) })
            self.security = security
            self.network = network
        } catch {
            throw HostError(.badConfiguration, error.errors.map(\.description))
        }
    }

    /// Reads the certificates, keys and CAs of a configuration.
    func readCertificates(_ node: HostConfiguration.Node) async throws(ConfigurationErrors) -> HostSecurity.Files {
        // Reading blocks on the file system.
        try await threads.run { () -> Result<HostSecurity.Files, ConfigurationErrors> in
            do throws(ConfigurationErrors) {
                return .success(try HostSecurity.read(node))
            } catch {
                return .failure(error)
            }
        }.get()
    }

    // MARK: - Start

    /// Applies the first configuration.
    ///
    /// - Parameters:
    ///   - logger: the logger of the host from now on.
    ///   - onFolderChange: called when the drop-in folder has changed and settled. Must return at once.
    /// - Throws: ``HostError`` with all errors; then no route is bound, except if the host ends because of a strict
    ///   drop-in.
    func start(
        _ configuration: HostConfiguration, logger: Logger, onFolderChange: @escaping @Sendable () -> Void
    ) async throws(HostError) {
        self.logger = logger
        self.onFolderChange = onFolderChange
        warn(configuration.warnings.map(\.description))
        do throws(ConfigurationError) {
            accessLog.use(try await accessLog.open(of: configuration, logger: logger))
        } catch {
            throw HostError(.badConfiguration, [error.description])
        }
        let preparation = await Preparation(configuration, tools: tools)
        warn(preparation.warnings)
        let applied = await apply(configuration, preparation)
        if case .refused(let refusal) = applied.routes.result {
            throw HostError(refusal.isTemporary ? .unavailable : .badConfiguration, refusal.reasons)
        }
        await record(applied, configuration)
        if configuration.dropIn?.strict == true, !dropIns.rejections.isEmpty {
            throw HostError(dropIns.isTemporary ? .unavailable : .badConfiguration, dropIns.rejections)
        }
        watchDropIns(configuration.dropIn)
        self.configuration = configuration
        startedNode = configuration.node
    }

    private func warn(_ warnings: [String]) {
        for warning in warnings { logger.warning("\(warning)") }
    }

    // MARK: - Reload

    /// Reads the configuration and the plugins again and applies all changes, or none.
    ///
    /// - Parameter isDryRun: change nothing; the outcome is the one that a reload would have.
    func reload(because cause: ReloadCause, isDryRun: Bool = false) async -> ReloadOutcome {
        if isDryRun { return await readAndApply(because: cause, isDryRun: true) }
        await routes.reloadBegins()
        let outcome = await readAndApply(because: cause, isDryRun: false)
        await routes.reloadEnded()
        return outcome
    }

    private func readAndApply(because cause: ReloadCause, isDryRun: Bool) async -> ReloadOutcome {
        guard let startedNode, let current = self.configuration else {
            return refused(["the host has not started"])
        }
        let configuration: HostConfiguration
        do throws(ConfigurationErrors) {
            switch cause {
            case .request: configuration = try await read()
            case .folder:
                configuration = try await read { (_, owners) throws(ConfigurationErrors) in
                    try current.rereadingDropIns(owners: owners)
                }
            }
        } catch {
            return refused(error.errors.map(\.description))
        }
        let certificates: HostSecurity.Files
        do throws(ConfigurationErrors) {
            certificates = try await readCertificates(configuration.node)
        } catch {
            return refused(error.errors.map(\.description))
        }
        var tools = tools
        tools.isTrial = isDryRun
        let preparation = await Preparation(
            configuration, running: await routes.readyVersions,
            leftOut: cause.isForced ? [:] : await routes.rejectedVersions,
            rejected: cause == .folder ? dropIns.entries.compactMapValues(\.rejected) : [:], tools: tools)
        let changesLog = configuration.log != self.configuration?.log
        let newLog: AccessLog.Opened
        do throws(ConfigurationError) {
            if isDryRun { try await accessLog.check(of: configuration) }
            newLog = changesLog && !isDryRun ? try await accessLog.open(of: configuration, logger: logger) : .off
        } catch {
            return refused([error.description])
        }
        let changedTLS = security?.changes(to: certificates) ?? []
        let changesAccess = configuration.access != current.access
        let node = configuration.node.changesTakenOver(since: self.configuration?.node ?? startedNode)
        let applied = await apply(configuration, preparation, isForced: cause.isForced, dryRun: isDryRun)
        var outcome: ReloadOutcome
        switch applied.routes.result {
        case .refused(let refusal):
            outcome = refused(refusal.reasons)
        case .done:
            let isSame =
                applied.routes.plan.isEmpty && node.isEmpty && changedTLS.isEmpty && !changesLog && !changesAccess
            outcome = ReloadOutcome(isSame ? .unchanged : .changed, generation: routes.generation)
            outcome.changes = ReloadChanges(applied.routes.plan)
            outcome.rejected = Self.rejections(applied, configuration)
            outcome.rolledBack = applied.routes.rolledBack
            if !isDryRun {
                await record(applied, configuration)
                if configuration.dropIn != self.configuration?.dropIn { watchDropIns(configuration.dropIn) }
            }
        }
        let waiting = configuration.node.changesThatNeedARestart(since: startedNode)
        outcome.needRestart = waiting.map(\.key)
        outcome.warnings =
            configuration.warnings.map(\.description) + certificates.warnings + preparation.warnings
            + waiting.map { "\(file): \($0.warning)" }
            + (await routes.disabledRoutes).map {
                "route '\($0)' stays drained: run 'chanserv enable \($0)' to serve it again"
            }
        if outcome.result != .refused {
            outcome.changes.node = node
            if changesLog { outcome.changes.log = ["access"] }
            if !changedTLS.isEmpty { outcome.changes.tls = changedTLS }
            if changesAccess { outcome.changes.access = true }
            if !isDryRun {
                self.configuration = configuration
                security?.use(certificates)
                network?.use(configuration.access.map { AccessRules($0) })
                if changesLog { accessLog.use(newLog) }
            }
        }
        return outcome
    }

    private func refused(_ reasons: [String]) -> ReloadOutcome {
        .refused(reasons, generation: routes.generation)
    }

    // MARK: - Apply

    /// The end of an attempt to apply a configuration.
    struct Applied {
        var routes: RouteSet.Application
        /// The drop-ins that cannot be served. They do not refuse the rest.
        var rejected: [String: RejectedDropIn]
        /// The names of removed drop-ins whose routes are still served.
        var kept: Set<String>
    }

    /// Applies a configuration completely, except for drop-ins that cannot be served: for these the version that runs
    /// goes on. If anything else is wrong, applies nothing.
    ///
    /// - Parameter dryRun: undo everything in any case.
    func apply(
        _ configuration: HostConfiguration, _ preparation: Preparation, isForced: Bool = false, dryRun: Bool = false
    ) async -> Applied {
        var selection = RouteSelection(
            configuration, preparation, running: await routes.planned, known: dropIns)
        // Each turn rejects at least one drop-in more, so the loop ends.
        while true {
            let end = await routes.apply(
                selection.wanted, preparation, problems: selection.problems, isForced: isForced, dryRun: dryRun)
            if case .refused(let refusal) = end.result, selection.reject(refusal) { continue }
            return Applied(routes: end, rejected: selection.rejected, kept: selection.kept)
        }
    }

    /// Records the drop-ins of a configuration that was applied, and logs those whose state has changed.
    private func record(_ applied: Applied, _ configuration: HostConfiguration) async {
        let serving = Set(await routes.planned.map(\.instance.plugin))
        let changed = dropIns.update(configuration, rejected: applied.rejected, kept: applied.kept, at: .now)
        for (name, entry) in changed {
            switch entry.state {
            case .serving, .disabled: break
            case .removed: logger.warning("drop-in '\(name)' was removed; it is served until the host is restarted")
            case .rejected(let reasons):
                let rest = serving.contains(name) ? "; its last version goes on" : ""
                for reason in reasons { logger.error("drop-in '\(name)': \(reason)") }
                logger.error("drop-in '\(name)' rejected\(rest)")
            }
        }
    }

    /// Returns why drop-ins of a configuration that was only tried are rejected, one line each.
    static func rejections(_ applied: Applied, _ configuration: HostConfiguration) -> [String] {
        var table = DropInTable()
        _ = table.update(configuration, rejected: applied.rejected, kept: [], at: .now)
        return table.rejections
    }

    /// Watches the drop-in folder, or ends the watch of the former one.
    private func watchDropIns(_ options: DropInOptions?) {
        folderWatch.take()?.cancel()
        guard let options, options.watch else { return }
        let watch = FolderWatch(options, logger: logger, onChange: onFolderChange)
        watch.start()
        folderWatch = watch
    }

    // MARK: - Status and end

    /// The configured name of the host, its drop-ins in the order of their names, and its certificates, see
    /// ``HostStatus``.
    var status: (name: String?, dropIns: [HostStatus.DropIn], certificates: [HostStatus.Certificate]) {
        (
            startedNode?.name, dropIns.entries.sorted { $0.key < $1.key }.map { HostStatus.DropIn($0.key, $0.value) },
            security?.certificates ?? []
        )
    }

    /// The configured time for running requests when the host stops. 1 s before the start, because there are none.
    var drainTime: Duration { configuration?.node.drain ?? .seconds(1) }

    /// Ends the watch of the drop-in folder.
    func stop() {
        folderWatch.take()?.cancel()
    }
}
