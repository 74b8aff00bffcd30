internal import AstraNet
internal import CProcess
internal import Chanserv
internal import ChanservAstraNet
internal import Glibc
internal import Logging
internal import NIOConcurrencyHelpers
internal import PluginRuntime

/// Main function of a worker process (`chanserv worker`), which only a host starts.
///
/// It inherits these descriptors: 3 the link to its host, 4 the control connection, 5 the library, 6 its assignment,
/// and 7 the memory that it shares with its host, if there is any. It is killed when its host dies. It ends when the
/// host says so, or when it cannot do its task.
package enum WorkerMain {
    private static let link: Int32 = 3
    private static let control: Int32 = 4
    private static let library: Int32 = 5
    private static let assignment: Int32 = 6
    private static let frames: Int32 = 7

    /// Command line of a worker, beginning with its name.
    package static func arguments(plugin: String) -> [String] {
        // Not the host's name, so that a search for host processes does not find workers.
        ["chanserv-worker", "worker", plugin, "--host", "\(getpid())"]
    }

    /// Returns the process id of the host from the command line that ``arguments(plugin:)`` makes; `nil` for any other.
    ///
    /// - Parameter arguments: the arguments without the name of the program.
    package static func host(in arguments: [String]) -> Int32? {
        guard arguments.count == 4, arguments[0] == "worker", arguments[2] == "--host" else { return nil }
        return Int32(arguments[3])
    }

    /// Runs the worker process. Never returns.
    ///
    /// - Parameter host: process id of the host that started this process.
    package static func run(host: Int32) async -> Never {
        // First of all, so that no worker outlives its host, whatever the library does.
        guard chanserv_die_with_parent(SIGKILL) == 0, getppid() == host else { _exit(70) }
        signal(SIGPIPE, SIG_IGN)
        // An operator may send these signals, which are meant for the host, to every process called chanserv. The
        // handlers do nothing. Ignoring the signals instead would be inherited by programs that a plugin starts.
        for number in [SIGHUP, SIGUSR1, SIGUSR2] { signal(number) { _ in } }
        _ = chanserv_name_thread("chanserv-worker")
        let assignment: WorkerAssignment
        do {
            assignment = try WorkerAssignment(decoding: try SealedFile.contents(of: Self.assignment))
        } catch {
            report(.refused("its assignment cannot be read: \(error)"))
            _exit(70)
        }
        close(Self.assignment)
        closeDescriptorsOnExec()
        // Before the limits, because it reads the library and all files that it needs.
        let prepared = prepare(assignment)
        limit(assignment)
        let logger = Logger(label: "worker") { _ in
            WorkerLogHandler(level: Logger.Level(rawValue: assignment.logLevel) ?? .info)
        }
        let watcher = watchHost()
        let threads = PluginThreads(name: "plugin", limit: PluginThreads.defaultSharedLimit)
        switch assignment.purpose {
        case .preflight: await preflight(assignment, prepared, threads: threads, logger: logger)
        case .serve: await serve(assignment, prepared, threads: threads, logger: logger, commands: watcher)
        }
    }

    /// Applies the resource limits to this process before any code of the library runs.
    private static func limit(_ assignment: WorkerAssignment) {
        if assignment.nice > 0 { raiseNiceness(by: Int32(assignment.nice)) }
        // A core dump would write a plugin's memory to disk.
        limit(RLIMIT_CORE, to: 0)
        if let bytes = assignment.limits.addressSpace { limit(RLIMIT_AS, to: bytes) }
        // The extra second lets the process die of SIGXCPU, which names the cause, and not of SIGKILL.
        if let seconds = assignment.limits.cpu { limit(RLIMIT_CPU, to: seconds, hard: seconds + 1) }
        if let files = assignment.limits.openFiles { limit(RLIMIT_NOFILE, to: files) }
        if let bytes = assignment.dataLimit { limit(RLIMIT_DATA, to: bytes) }
    }

    /// Raises the niceness of all threads. On Linux each thread has its own; existing threads must be changed, later
    /// ones inherit it.
    private static func raiseNiceness(by more: Int32) {
        let kind = __priority_which_t(PRIO_PROCESS.rawValue)
        let niceness = min(19, getpriority(kind, 0) + more)
        for thread in threads() { _ = setpriority(kind, thread, niceness) }
    }

    /// Returns the ids of this process's threads. 0 stands for the calling thread and is always included.
    private static func threads() -> [id_t] {
        guard let folder = opendir("/proc/self/task") else { return [0] }
        defer { closedir(folder) }
        var threads: [id_t] = [0]
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if let number = id_t(name) { threads.append(number) }
        }
        return threads
    }

    private static func limit(_ resource: __rlimit_resource, to most: Int, hard: Int? = nil) {
        _ = chanserv_limit(Int32(resource.rawValue), UInt64(most), UInt64(hard ?? most))
    }

    // MARK: The host

    /// Reads the commands of the host. The process ends with the connection, whatever a plugin's threads do.
    private static func watchHost() -> AsyncStream<WorkerCommand> {
        let (commands, continuation) = AsyncStream.makeStream(
            of: WorkerCommand.self, bufferingPolicy: .bufferingOldest(1_024))
        let copy = fcntl(control, F_DUPFD_CLOEXEC, CInt(8))
        let reader = LineReader(
            copy, limit: WorkerLine.limit,
            onLine: { line in
                if let command = WorkerLine.decode(line, as: WorkerCommand.self) { continuation.yield(command) }
            }, onEnd: { _exit(0) })
        keptReader.withLockedValue { $0 = reader }
        return commands
    }

    private static let keptReader = NIOLockedValueBox<LineReader?>(nil)

    /// Sends a report to the host. Reports are short and the host reads them at once, so this does not block for long.
    private static func report(_ message: WorkerReport) {
        let bytes = WorkerLine.encode(message)
        _ = bytes.withUnsafeBytes { send(control, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    }

    // MARK: The library

    private struct PreparedLibrary {
        var linkage: PluginLinkage
        var digest: PluginDigest
        /// File to load instead of the inherited one.
        var changedFile: SealedFile?
    }

    /// Reads the library and the files that it needs.
    private static func prepare(_ assignment: WorkerAssignment) -> Result<PreparedLibrary, PluginLoadError> {
        guard let digest = PluginDigest(hex: assignment.digest) else {
            preconditionFailure("an assignment without a digest")
        }
        do {
            var linkage = try PluginLinkage(
                try SealedFile.contents(of: library), digest: digest, path: assignment.path)
            let file = try linkage.changedBytes.map { bytes throws(ProcessError) in
                try SealedFile(bytes, name: "library")
            }
            linkage.changedBytes = nil
            return .success(PreparedLibrary(linkage: linkage, digest: digest, changedFile: file))
        } catch let error as PluginLoadError {
            return .failure(error)
        } catch {
            return .failure(PluginLoadError(.outOfResources, path: assignment.path, "\(error)"))
        }
    }

    private static func load(
        _ prepared: Result<PreparedLibrary, PluginLoadError>, _ assignment: WorkerAssignment
    ) -> Result<PluginLibrary, PluginLoadError> {
        do throws(PluginLoadError) {
            let prepared = try prepared.get()
            // No other library in this process has this name. The descriptor refers to the bytes that the host has
            // checked, or to a copy of them.
            let handle = try prepared.linkage.open(
                "/proc/self/fd/\(prepared.changedFile?.descriptor ?? library)")
            let descriptor = try PluginStore.descriptor(in: handle, path: assignment.path)
            return .success(
                PluginLibrary(
                    path: assignment.path, digest: prepared.digest, size: assignment.size, descriptor: descriptor))
        } catch {
            return .failure(error)
        }
    }

    /// Warns about files that were replaced without a reload, because the process has started again since then.
    private static func warnAboutChanges(
        _ prepared: Result<PreparedLibrary, PluginLoadError>, _ assignment: WorkerAssignment, _ logger: Logger
    ) {
        guard case .success(let prepared) = prepared else { return }
        for file in prepared.linkage.needed
        where assignment.needed.contains(where: { $0.path == file.path && $0.content != file.content }) {
            logger.warning(
                "\(file.path) has changed since the host read it; run 'chanserv reload' to use it in all processes")
        }
    }

    private static func options(_ assignment: WorkerAssignment) -> PluginInstance.Configuration {
        var options = PluginInstance.Configuration()
        options.callBudget = .nanoseconds(assignment.callBudget)
        options.blockingThreads = assignment.threads
        options.allowsInline = assignment.allowsInline
        if let nanoseconds = assignment.killAfter {
            options.killAfter = .nanoseconds(nanoseconds)
            options.onKillTimeout = { what in
                report(.ending("\(what) and its process was killed (kill_after)"))
                // Not exit(): that would run handlers that the library has registered, and could wait for the call that
                // hangs.
                kill(getpid(), SIGKILL)
            }
        }
        return options
    }

    // MARK: Serving

    private static func serve(
        _ assignment: WorkerAssignment, _ prepared: Result<PreparedLibrary, PluginLoadError>, threads: PluginThreads,
        logger: Logger, commands: AsyncStream<WorkerCommand>
    ) async -> Never {
        warnAboutChanges(prepared, assignment, logger)
        // Mapped before any code of the library runs, because that code may close or replace descriptors.
        let memory = assignment.sharesFrames ? sharedFrames() : nil
        let library: PluginLibrary
        switch await threads.run({ load(prepared, assignment) }) {
        case .success(let loaded): library = loaded
        case .failure(let error): refuse("\(error)")
        }
        let instance: PluginInstance
        do throws(PluginError) {
            instance = try await PluginInstance.create(
                name: assignment.plugin, library: library, values: assignment.configurations[0], threads: threads,
                logger: logger, configuration: options(assignment))
        } catch {
            refuse(error.message)
        }
        let node = Node(
            configuration: WorkerLink.configuration, logger: Logger(label: "worker") { _ in SwiftLogNoOpLogHandler() })
        let server = WorkerServer(instance, on: AstraNetMultiplexer(node))
        do {
            async let linked = node.attach(socket: link, memory: memory)
            report(.ready(name: library.descriptor.name, version: library.descriptor.version))
            _ = try await linked
        } catch {
            report(.ending("it cannot reach its host: \(error)"))
            _exit(70)
        }
        let reporting = Task { await reportStatistics(of: instance, server) }
        for await command in commands {
            switch command {
            case .offer(let name, let compression, let batchSize):
                do {
                    try server.offer(name, compression: compression, batchSize: batchSize)
                } catch {
                    report(.ending("it cannot offer its instance: \(error)"))
                    _exit(70)
                }
            case .retire:
                reporting.cancel()
                report(.statistics(instance.statistics, unfinished: server.open.unfinishedCount))
                let end = await instance.retire(WorkerServer.instanceID, in: server.open, deadline: .now)
                report(.retired(isDestroyed: end == .destroyed))
                _exit(0)
            }
        }
        _exit(0)
    }

    private static func sharedFrames() -> SharedMemory? {
        defer { close(frames) }
        return WorkerLink.memory(of: frames, .writes)
    }

    private static func refuse(_ message: String) -> Never {
        report(.refused(message))
        _exit(65)
    }

    /// Reports the counters once a second, even if they have not changed. This is also the heartbeat.
    private static func reportStatistics(of instance: PluginInstance, _ server: WorkerServer) async {
        while !Task.isCancelled {
            report(.statistics(instance.statistics, unfinished: server.open.unfinishedCount))
            do { try await Task.sleep(for: HeartbeatMonitor.reportInterval) } catch { return }
        }
    }

    // MARK: Preflight

    /// Runs the steps that the host would run with the library, to detect crashes and hangs. Orderly errors are only
    /// reported for a trial; otherwise the host finds and reports them itself later.
    private static func preflight(
        _ assignment: WorkerAssignment, _ prepared: Result<PreparedLibrary, PluginLoadError>, threads: PluginThreads,
        logger: Logger
    ) async -> Never {
        report(.doing("its constructors"))
        let loaded = await threads.run { load(prepared, assignment) }
        let library: PluginLibrary
        switch loaded {
        case .success(let loaded): library = loaded
        case .failure(let error):
            if assignment.reportsRefusals { refuse("\(error)") }
            report(.fine)
            _exit(0)
        }
        for configuration in assignment.configurations {
            report(.doing("its create"))
            do throws(PluginError) {
                let instance = try await PluginInstance.create(
                    name: assignment.plugin, library: library, values: configuration, threads: threads, logger: logger,
                    configuration: options(assignment))
                report(.doing("its destroy"))
                _ = await instance.destroy(openRequests: 0, grace: .seconds(3600))
            } catch {
                if assignment.reportsRefusals { refuse(error.message) }
                continue
            }
        }
        report(.fine)
        _exit(0)
    }
}
