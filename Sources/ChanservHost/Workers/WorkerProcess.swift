internal import AstraNet
internal import Chanserv
internal import ChanservAstraNet
internal import Glibc
internal import HostConfiguration
internal import Logging
internal import NIOConcurrencyHelpers
internal import PluginRuntime

/// Worker process that serves an instance, from its start to its end, as the host sees it. Owns the host's end of the
/// link, the control connection, and the output of the process.
final class WorkerProcess: Sendable {
    /// Name and version that the worker reported when it was ready.
    struct Identification: Sendable {
        var name: String
        var version: String
    }

    private struct State {
        var identification: Identification?
        var refusal: String?
        /// Reason of the end, reported by the worker or set by the host.
        var ending: String?
        var statistics = PluginStatistics.zero
        var unfinished = 0
        /// Number of reports of any kind.
        var reports = 0
        var isDestroyed: Bool?
        /// Names under which the worker must offer the instance.
        var offers: Set<String> = []
        var isWatched = false
    }

    /// Multiplexer for requests to the worker.
    let multiplexer: AstraNetMultiplexer
    private let child: ChildProcess
    private let plugin: String
    private let limits: IsolationOptions.Limits
    private let node: Node
    /// Closed by ``end()``, so that a remaining reference to this object holds no descriptor.
    private let control: NIOLockedValueBox<Int32?>
    private let state = NIOLockedValueBox(State())
    /// Happens when the process is ready, has refused its assignment, or has ended.
    private let settled = OneTimeEvent()
    private let reports = NIOLockedValueBox<LineReader?>(nil)
    private let output = NIOLockedValueBox<LineReader?>(nil)
    private let lastOutput = NIOLockedValueBox(LastOutput())
    private let heartbeats = NIOLockedValueBox<Task<Void, Never>?>(nil)

    /// Starts a process and waits until it serves.
    ///
    /// - Parameters:
    ///   - program: path of chanserv's own executable.
    ///   - assignment: assignment of the worker.
    ///   - image: the library.
    ///   - options: options of the process.
    ///   - logger: receives the output of the process.
    /// - Throws: ``PluginError``: the refusal of the worker, the end of the process, or a timeout.
    static func start(
        program: String, assignment: WorkerAssignment, image: SealedFile, options: IsolationOptions, logger: Logger
    ) async throws(PluginError) -> WorkerProcess {
        let process: WorkerProcess
        let launched: WorkerLaunch
        do {
            (process, launched) = try await launch(program, assignment, image, options, logger)
        } catch {
            throw PluginError(.busy, "plugin \(assignment.plugin): its process cannot be started: \(error)")
        }
        do {
            try await process.becomeReady(link: launched.link, memory: launched.memory, within: options.startup)
            if let timeout = options.heartbeatTimeout { process.watchHeartbeats(timeout) }
            return process
        } catch {
            await process.end()
            throw error
        }
    }

    private static func launch(
        _ program: String, _ assignment: WorkerAssignment, _ image: SealedFile, _ options: IsolationOptions,
        _ logger: Logger
    ) async throws -> (WorkerProcess, WorkerLaunch) {
        let launch = try await WorkerLaunch.start(program, assignment, image, options)
        var logger = logger
        logger[metadataKey: "process"] = .stringConvertible(launch.child.id)
        let process = WorkerProcess(
            launch.child, plugin: assignment.plugin, limits: options.limits, control: launch.control)
        process.listen(output: launch.output, control: launch.control, logger: logger)
        return (process, launch)
    }

    private init(_ child: ChildProcess, plugin: String, limits: IsolationOptions.Limits, control: Int32) {
        self.child = child
        self.plugin = plugin
        self.limits = limits
        self.control = NIOLockedValueBox(control)
        node = Node(
            configuration: WorkerLink.configuration,
            logger: Logger(label: "worker", factory: { _ in SwiftLogNoOpLogHandler() }))
        multiplexer = AstraNetMultiplexer(node)
    }

    private func listen(output descriptor: Int32, control: Int32, logger: Logger) {
        let lines = WorkerOutput(logger: logger)
        output.withLockedValue {
            $0 = LineReader(
                descriptor, limit: WorkerOutput.lineLimit,
                onLine: { [lastOutput] line in
                    lines.received(line)
                    lastOutput.withLockedValue { $0.printed(line) }
                }, onEnd: lines.finish)
        }
        let copy = fcntl(control, F_DUPFD_CLOEXEC, CInt(3))
        reports.withLockedValue {
            $0 = LineReader(
                copy, limit: WorkerLine.limit,
                onLine: { [weak self] line in
                    lines.logDroppedLines()
                    self?.received(line)
                },
                // The control connection is closed: the process has ended or has closed its descriptors.
                onEnd: { [weak self] in self?.isLost() })
        }
        Task { [weak self, child] in
            _ = await child.waitForExit()
            self?.settled.happened()
        }
    }

    private func received(_ line: ArraySlice<UInt8>) {
        guard let report = WorkerLine.decode(line, as: WorkerReport.self) else { return }
        state.withLockedValue { state in
            state.reports += 1
            switch report {
            case .ready(let name, let version):
                state.identification = Identification(name: WorkerLine.brief(name), version: WorkerLine.brief(version))
            case .refused(let message): state.refusal = WorkerLine.brief(message)
            case .statistics(let statistics, let unfinished):
                state.statistics = statistics
                // A worker process is not trusted.
                state.unfinished = min(max(0, unfinished), Self.maximumUnfinished)
            case .ending(let reason): state.ending = WorkerLine.brief(reason)
            case .retired(let isDestroyed): state.isDestroyed = isDestroyed
            case .doing, .fine: break
            }
        }
        switch report {
        case .ready, .refused: settled.happened()
        default: break
        }
    }

    private func becomeReady(
        link: Int32, memory: SharedMemory?, within time: Duration
    ) async throws(PluginError) {
        let deadline = ContinuousClock.now + time
        let attached = Task { [node] in
            do {
                try await node.attach(socket: link, memory: memory)
                return true
            } catch {
                return false
            }
        }
        let hasSettled = await settled.wait(until: deadline)
        if hasSettled, child.exit != nil {
            // The last reports and output may still be in the pipes.
            for reader in [reports, output] {
                await reader.withLockedValue { $0 }?.waitForEnd(until: .now + .milliseconds(500))
            }
        }
        let (identification, refusal) = state.withLockedValue { ($0.identification, $0.refusal) }
        if let refusal { throw PluginError(.internal, refusal) }
        if identification != nil {
            lastOutput.withLockedValue { $0.hasStarted() }
            guard await attached.value else {
                throw PluginError(.internal, await reasonForNotStarting())
            }
            return
        }
        if Task.isCancelled { throw PluginError(.withdrawn, "the host is stopping") }
        guard hasSettled else {
            throw PluginError(
                .busy,
                """
                plugin \(plugin): its process was not ready within \(time) (startup): create or a constructor of the \
                library did not return
                """)
        }
        throw PluginError(.internal, await reasonForNotStarting())
    }

    private func reasonForNotStarting() async -> String {
        let reason = await reasonForEnd(within: .seconds(1)) ?? "its process cannot be reached"
        return "plugin \(plugin): \(reason)\(lastOutput.withLockedValue { $0 })\(limits.hint)"
    }

    // MARK: While it runs

    /// Name and version that the worker reported.
    var identification: Identification {
        state.withLockedValue { $0.identification } ?? Identification(name: plugin, version: "")
    }

    /// Process id.
    var id: Int32 { child.id }

    /// Counters of the instance, as last reported.
    var statistics: PluginStatistics { state.withLockedValue { $0.statistics } }

    /// Number of requests that the host has ended and the plugin has not closed, as last reported.
    var unfinishedRequests: Int { state.withLockedValue { $0.unfinished } }

    private static let maximumUnfinished = 1 << 20

    /// Returns the name under which to dial the instance for requests of a route with these options.
    func name(for options: RouteOptions) -> String {
        let name = "requests-\(options.compression ? "lz4" : "plain")-\(options.batchSize)"
        if state.withLockedValue({ $0.offers.insert(name).inserted }) {
            send(.offer(name: name, compression: options.compression, batchSize: options.batchSize))
        }
        return name
    }

    private func send(_ command: WorkerCommand) {
        let bytes = WorkerLine.encode(command)
        // Commands are few and short, and the process reads them, so the buffer has room. A command to an ended process
        // is dropped.
        control.withLockedValue { control in
            guard let control else { return }
            _ = bytes.withUnsafeBytes { Glibc.send(control, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        }
    }

    /// Kills the process after `timeout` without a report. It is then stopped or has no running thread left.
    private func watchHeartbeats(_ timeout: Duration) {
        let watcher = Task { [weak self] in
            var watch = HeartbeatMonitor()
            while true {
                do { try await Task.sleep(for: HeartbeatMonitor.interval(for: timeout)) } catch { return }
                guard let self else { return }
                guard watch.look(reports: state.withLockedValue { $0.reports }) else { continue }
                let time = ValueGrammar.text(timeout)
                state.withLockedValue { state in
                    if state.ending == nil {
                        state.ending = "its process sent no report for \(time) and was killed (heartbeat_timeout)"
                    }
                }
                return child.signal(SIGKILL)
            }
        }
        heartbeats.withLockedValue { $0 = watcher }
    }

    private func stopWatchingHeartbeats() { heartbeats.withLockedValue { $0.take() }?.cancel() }

    /// Handles the loss of the link or of the control connection. A process that cannot be reached is useless, so the
    /// host kills it if it does not end by itself.
    func isLost() {
        let isFirst = state.withLockedValue { state in
            defer { state.isWatched = true }
            return !state.isWatched
        }
        guard isFirst else { return }
        Task { [child] in
            if await child.waitForExit(until: .now + .milliseconds(200)) == nil {
                state.withLockedValue { state in
                    if state.ending == nil {
                        state.ending = "its process closed its connection to the host and was killed"
                    }
                }
                child.signal(SIGKILL)
            }
        }
    }

    // MARK: Its end

    /// Waits until the process has ended.
    func waitForEnd() async { _ = await child.waitForExit() }

    /// Waits for the end of the process and returns the reason, for operators and clients. The text does not contain
    /// the name of the plugin.
    ///
    /// - Returns: `nil` if the process has not ended within `time`.
    func reasonForEnd(within time: Duration) async -> String? {
        // Only if the link is lost. The failure of a single stream does not affect others.
        if node.linkCount == 0 { isLost() }
        let exit = await Task { await self.child.waitForExit(until: .now + time) }.value
        // The last report may still be in the socket.
        await reports.withLockedValue { $0 }?.waitForEnd(until: .now + .milliseconds(200))
        if let ending = state.withLockedValue({ $0.ending }) { return ending }
        return exit.map { "its process \($0)" }
    }

    /// Asks the process to destroy its instance and to end.
    ///
    /// - Parameter grace: maximum time before the process is killed.
    /// - Returns: whether the plugin's destroy has returned.
    func retire(grace: Duration) async -> Bool {
        // From now on `grace` limits the process instead of the heartbeat.
        stopWatchingHeartbeats()
        send(.retire)
        let exit = await Task { await self.child.waitForExit(until: .now + grace) }.value
        let isDestroyed = exit?.isSuccess == true && state.withLockedValue { $0.isDestroyed } != false
        await end()
        return isDestroyed
    }

    /// Kills the process. Repeated calls have no effect.
    func end() async {
        stopWatchingHeartbeats()
        await child.kill()
        await node.shutdown(grace: .zero)
        let readers = [reports.withLockedValue { $0.take() }, output.withLockedValue { $0.take() }]
        for reader in readers {
            // Waits for the last output, but not for long: a program that the process started may hold the pipe open.
            await reader?.waitForEnd(until: .now + .milliseconds(200))
            reader?.cancel()
        }
        closeControl()
    }

    private func closeControl() {
        if let control = control.withLockedValue({ $0.take() }) { close(control) }
    }

    deinit {
        stopWatchingHeartbeats()
        closeControl()
    }
}
