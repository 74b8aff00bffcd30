internal import AstraNet
internal import Chanserv
internal import ChanservAstraNet
internal import Glibc
internal import Logging
internal import NIOConcurrencyHelpers

/// One process that serves an instance, from its start to its end, seen from the host: its node's other end, its control
/// connection, and its output.
final class WorkerProcess: Sendable {
    /// What it said of itself when it was ready.
    struct Introduction: Sendable {
        var name: String
        var version: String
    }

    private struct State {
        var introduction: Introduction?
        var refusal: String?
        /// Why it ends itself.
        var ending: String?
        var statistics = PluginStatistics.zero
        /// Of any kind, so far.
        var reports = 0
        var isDestroyed: Bool?
        /// The names under which it was told to offer the instance.
        var offers: Set<String> = []
        var isWatched = false
    }

    /// For requests.
    let multiplexer: AstraNetMultiplexer
    private let child: ChildProcess
    private let plugin: String
    private let limits: IsolationOptions.Limits
    private let node: Node
    /// Closed when it is ended: whoever still holds this then holds no descriptor.
    private let control: NIOLockedValueBox<Int32?>
    private let state = NIOLockedValueBox(State())
    /// It is ready, has refused, or has ended.
    private let settled = Event()
    private let reports = NIOLockedValueBox<LineReader?>(nil)
    private let output = NIOLockedValueBox<LineReader?>(nil)
    private let lastWords = NIOLockedValueBox(LastWords())
    private let heartbeats = NIOLockedValueBox<Task<Void, Never>?>(nil)

    /// Starts a process and waits until it serves.
    ///
    /// - Parameters:
    ///   - program: chanserv's own executable.
    ///   - assignment: what it is told.
    ///   - image: the library.
    ///   - options: how it is run.
    ///   - logger: gets its output.
    /// - Throws: ``PluginError``: what it refused, how it ended instead, or that it took too long.
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
        logger[metadataKey: "process"] = "\(launch.child.id)"
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
                onLine: { [lastWords] line in
                    lines.received(line)
                    lastWords.withLockedValue { $0.printed(line) }
                }, onEnd: lines.finish)
        }
        let copy = fcntl(control, F_DUPFD_CLOEXEC, CInt(3))
        reports.withLockedValue {
            $0 = LineReader(
                copy, limit: WorkerLine.limit,
                onLine: { [weak self] line in
                    lines.tellDropped()
                    self?.received(line)
                },
                // Its end of the connection is gone: the process is, or has closed what it was given.
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
                state.introduction = Introduction(name: WorkerLine.brief(name), version: WorkerLine.brief(version))
            case .refused(let message): state.refusal = WorkerLine.brief(message)
            case .statistics(let statistics): state.statistics = statistics
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
            // What it said and printed last is on its way.
            for reader in [reports, output] {
                await reader.withLockedValue { $0 }?.waitForEnd(until: .now + .milliseconds(500))
            }
        }
        let (introduction, refusal) = state.withLockedValue { ($0.introduction, $0.refusal) }
        if let refusal { throw PluginError(.internal, refusal) }
        if introduction != nil {
            lastWords.withLockedValue { $0.hasStarted() }
            guard await attached.value else {
                throw PluginError(.internal, await reasonForNotStarting())
            }
            return
        }
        if Task.isCancelled { throw PluginError(.withdrawn, "the host is stopping") }
        guard hasSettled else {
            throw PluginError(
                .busy,
                "plugin \(plugin): its process was not ready within \(time) (startup): its create, or a constructor of the library, does not return"
            )
        }
        throw PluginError(.internal, await reasonForNotStarting())
    }

    private func reasonForNotStarting() async -> String {
        let reason = await reasonForEnd(within: .seconds(1)) ?? "its process cannot be reached"
        return "plugin \(plugin): \(reason)\(lastWords.withLockedValue { $0 })\(limits.hint)"
    }

    // MARK: While it runs

    /// What it said of itself.
    var introduction: Introduction {
        state.withLockedValue { $0.introduction } ?? Introduction(name: plugin, version: "")
    }

    /// The number of its process.
    var id: Int32 { child.id }

    /// What its instance has done, as far as it has said.
    var statistics: PluginStatistics { state.withLockedValue { $0.statistics } }

    /// The name under which to dial the instance for requests of a route with these options.
    func name(for options: RouteOptions) -> String {
        let name = "requests-\(options.compression ? "lz4" : "plain")-\(options.batchSize)"
        if state.withLockedValue({ $0.offers.insert(name).inserted }) {
            send(.offer(name: name, compression: options.compression, batchSize: options.batchSize))
        }
        return name
    }

    private func send(_ command: WorkerCommand) {
        let bytes = WorkerLine.encode(command)
        // Commands are few and short, and the process reads them: there is room. Where it has ended nobody is told.
        control.withLockedValue { control in
            guard let control else { return }
            _ = bytes.withUnsafeBytes { Glibc.send(control, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        }
    }

    /// Kills it where it says nothing for so long: it is stopped, or has no thread left that runs.
    private func watchHeartbeats(_ timeout: Duration) {
        let watcher = Task { [weak self] in
            var watch = HeartbeatWatch()
            while true {
                do { try await Task.sleep(for: HeartbeatWatch.interval(for: timeout)) } catch { return }
                guard let self else { return }
                guard watch.look(reports: state.withLockedValue { $0.reports }) else { continue }
                state.withLockedValue { state in
                    if state.ending == nil {
                        state.ending =
                            "its process has said nothing for \(ValueGrammar.text(timeout)), so it was killed (heartbeat_timeout)"
                    }
                }
                return child.signal(SIGKILL)
            }
        }
        heartbeats.withLockedValue { $0 = watcher }
    }

    private func stopWatchingHeartbeats() { heartbeats.withLockedValue { $0.take() }?.cancel() }

    /// The way to it is broken. A process that cannot be reached is of no use: it is ended where it has not by itself.
    func isLost() {
        let isFirst = state.withLockedValue { state in
            defer { state.isWatched = true }
            return !state.isWatched
        }
        guard isFirst else { return }
        Task { [child] in
            if await child.waitForExit(until: .now + .milliseconds(200)) == nil {
                state.withLockedValue { state in
                    if state.ending == nil { state.ending = "it closed its connection to the host, so it was ended" }
                }
                child.signal(SIGKILL)
            }
        }
    }

    // MARK: Its end

    /// Waits for it to end.
    func waitForEnd() async { _ = await child.waitForExit() }

    /// Why it ended, for operators and clients, waiting for it to end; it does not say the plugin's name.
    ///
    /// - Returns: `nil` where it has not ended.
    func reasonForEnd(within time: Duration) async -> String? {
        // Not for one stream that broke: others may be fine.
        if node.linkCount == 0 { isLost() }
        let exit = await Task { await self.child.waitForExit(until: .now + time) }.value
        // What it said last is on its way.
        await reports.withLockedValue { $0 }?.waitForEnd(until: .now + .milliseconds(200))
        if let ending = state.withLockedValue({ $0.ending }) { return ending }
        return exit.map { "its process \($0)" }
    }

    /// Lets it destroy its instance and end.
    ///
    /// - Parameter grace: how long that may take before it is killed.
    /// - Returns: whether its destroy has returned.
    func retire(grace: Duration) async -> Bool {
        // From now on it has its grace.
        stopWatchingHeartbeats()
        send(.retire)
        let exit = await Task { await self.child.waitForExit(until: .now + grace) }.value
        let isDestroyed = exit?.isSuccess == true && state.withLockedValue { $0.isDestroyed } != false
        await end()
        return isDestroyed
    }

    /// Ends it now. Repeating it does no harm.
    func end() async {
        stopWatchingHeartbeats()
        await child.kill()
        await node.shutdown(grace: .zero)
        let readers = [reports.withLockedValue { $0.take() }, output.withLockedValue { $0.take() }]
        for reader in readers {
            // What it printed last; what it started may hold the other end open.
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
