internal import AstraNet
internal import CProcess
internal import Chanserv
internal import ChanservAstraNet
internal import Glibc
internal import Logging
internal import NIOConcurrencyHelpers

/// What a worker process does (`chanserv worker`, which only a host starts).
///
/// It inherits the link to its host, the control connection, the library and its assignment as descriptors 3 to 6, and as 7 the
/// memory that it shares with its host, where there is any. It dies with its host, and ends when it is told to, or when it cannot do
/// what it is there for.
package enum WorkerMain {
    private static let link: Int32 = 3
    private static let control: Int32 = 4
    private static let library: Int32 = 5
    private static let assignment: Int32 = 6
    private static let frames: Int32 = 7

    /// The command line of a worker, from its name on.
    static func arguments(plugin: String) -> [String] {
        // Not the host's name, or whoever looks for that finds these too.
        ["chanserv-worker", "worker", plugin, "--host", "\(getpid())"]
    }

    /// - Parameter host: the process that started this one.
    package static func run(host: Int32) async -> Never {
        // First of all: whatever the library does, nothing outlives the host.
        guard chanserv_die_with_parent(SIGKILL) == 0, getppid() == host else { _exit(70) }
        signal(SIGPIPE, SIG_IGN)
        // For the host, where somebody sends them to everything that is called chanserv. Not ignored, for that would be inherited
        // by what a plugin starts.
        for number in [SIGHUP, SIGUSR1, SIGUSR2] { signal(number) { _ in } }
        _ = chanserv_name_thread("chanserv-worker")
        let assignment: WorkerAssignment
        do {
            assignment = try WorkerAssignment(decoding: try SealedFile.contents(of: Self.assignment))
        } catch {
            say(.refused("its assignment cannot be read: \(error)"))
            _exit(70)
        }
        close(Self.assignment)
        limit(assignment)
        let logger = Logger(label: "worker") { _ in
            WorkerLogHandler(level: Logger.Level(rawValue: assignment.logLevel) ?? .info)
        }
        let watcher = watchHost()
        let threads = PluginThreads(name: "plugin", limit: PluginThreads.defaultSharedLimit)
        switch assignment.purpose {
        case .preflight: await tryOut(assignment, threads: threads, logger: logger)
        case .serve: await serve(assignment, threads: threads, logger: logger, commands: watcher)
        }
    }

    /// Bounds this process before any code of the library runs.
    private static func limit(_ assignment: WorkerAssignment) {
        if assignment.nice > 0 { beNicer(by: Int32(assignment.nice)) }
        // What a plugin's memory holds is nobody's to find on a disk.
        limit(RLIMIT_CORE, to: 0)
        if let bytes = assignment.limits.addressSpace { limit(RLIMIT_AS, to: bytes) }
        // The second more is for the signal that says what it was.
        if let seconds = assignment.limits.cpu { limit(RLIMIT_CPU, to: seconds, hard: seconds + 1) }
        if let files = assignment.limits.openFiles { limit(RLIMIT_NOFILE, to: files) }
        if let bytes = assignment.dataLimit { limit(RLIMIT_DATA, to: bytes) }
    }

    /// To Linux niceness is a thread's: those that are here already have to be told, too; later ones inherit it.
    private static func beNicer(by more: Int32) {
        let kind = __priority_which_t(PRIO_PROCESS.rawValue)
        let niceness = min(19, getpriority(kind, 0) + more)
        for thread in threads() { _ = setpriority(kind, thread, niceness) }
    }

    /// The numbers of this process's threads; at least the one that asks.
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

    /// What the host says. Its end is the end of this process too, whatever a plugin's threads are doing.
    private static func watchHost() -> AsyncStream<WorkerCommand> {
        let (commands, told) = AsyncStream.makeStream(of: WorkerCommand.self, bufferingPolicy: .bufferingOldest(1_024))
        let copy = fcntl(control, F_DUPFD_CLOEXEC, CInt(8))
        let reader = LineReader(
            copy, limit: WorkerLine.limit,
            onLine: { line in
                if let command = WorkerLine.decode(line, as: WorkerCommand.self) { told.yield(command) }
            }, onEnd: { _exit(0) })
        keptReader.withLockedValue { $0 = reader }
        return commands
    }

    private static let keptReader = NIOLockedValueBox<LineReader?>(nil)

    /// Tells the host. Reports are short and read at once, so that this does not block for long.
    private static func say(_ report: WorkerReport) {
        let bytes = WorkerLine.encode(report)
        _ = bytes.withUnsafeBytes { send(control, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    }

    // MARK: The library

    private static func load(_ assignment: WorkerAssignment) -> Result<PluginLibrary, PluginLoadError> {
        // A name that nothing else in this process has; the descriptor is of the bytes that the host has checked.
        guard let handle = dlopen("/proc/self/fd/\(library)", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) else {
            return .failure(PluginStore.linkFailure(assignment.path, copy: "/proc/self/fd/\(library)"))
        }
        do throws(PluginLoadError) {
            let descriptor = try PluginStore.descriptor(in: handle, path: assignment.path)
            guard let digest = PluginDigest(hex: assignment.digest) else {
                preconditionFailure("an assignment without a digest")
            }
            return .success(
                PluginLibrary(path: assignment.path, digest: digest, size: assignment.size, descriptor: descriptor))
        } catch {
            return .failure(error)
        }
    }

    private static func options(_ assignment: WorkerAssignment) -> PluginInstance.Configuration {
        var options = PluginInstance.Configuration()
        options.callBudget = .nanoseconds(assignment.callBudget)
        if let threads = assignment.threads { options.blockingThreads = threads }
        options.allowsInline = assignment.allowsInline
        if let nanoseconds = assignment.killAfter {
            options.killAfter = .nanoseconds(nanoseconds)
            options.onHopeless = { what in
                say(.ending("\(what), so its process was ended (kill_after)"))
                // Not an exit: that would run what the library has registered, and could wait for what hangs.
                kill(getpid(), SIGKILL)
            }
        }
        return options
    }

    // MARK: Serving

    private static func serve(
        _ assignment: WorkerAssignment, threads: PluginThreads, logger: Logger, commands: AsyncStream<WorkerCommand>
    ) async -> Never {
        // Before any code of the library runs, which may do what it likes with descriptors.
        let memory = assignment.sharesFrames ? sharedFrames() : nil
        let library: PluginLibrary
        switch await threads.run({ load(assignment) }) {
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
            say(.ready(name: library.descriptor.name, version: library.descriptor.version))
            _ = try await linked
        } catch {
            say(.ending("it cannot reach its host: \(error)"))
            _exit(70)
        }
        let telling = Task { await tellStatistics(of: instance) }
        for await command in commands {
            switch command {
            case .offer(let name, let compression, let batchSize):
                do {
                    try server.offer(name, compression: compression, batchSize: batchSize)
                } catch {
                    say(.ending("it cannot offer its instance: \(error)"))
                    _exit(70)
                }
            case .retire:
                telling.cancel()
                say(.statistics(instance.statistics))
                let end = await instance.retire(WorkerServer.lease, in: server.open, deadline: .now)
                say(.retired(isDestroyed: end == .destroyed))
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
        say(.refused(message))
        _exit(65)
    }

    /// Tells what was done so far, once a second, changed or not: it is the heartbeat too.
    private static func tellStatistics(of instance: PluginInstance) async {
        while !Task.isCancelled {
            say(.statistics(instance.statistics))
            do { try await Task.sleep(for: HeartbeatWatch.reportInterval) } catch { return }
        }
    }

    // MARK: Preflight

    /// Does with the library what the host will do. What goes wrong in an orderly way is the host's to find and to tell; this
    /// is for what would take the host along.
    private static func tryOut(_ assignment: WorkerAssignment, threads: PluginThreads, logger: Logger) async -> Never {
        say(.doing("its constructors"))
        let loaded = await threads.run { load(assignment) }
        guard case .success(let library) = loaded else {
            say(.fine)
            _exit(0)
        }
        for configuration in assignment.configurations {
            say(.doing("its create"))
            do throws(PluginError) {
                let instance = try await PluginInstance.create(
                    name: assignment.plugin, library: library, values: configuration, threads: threads, logger: logger,
                    configuration: options(assignment))
                say(.doing("its destroy"))
                _ = await instance.destroy(openRequests: 0, grace: .seconds(3600))
            } catch {
                continue
            }
        }
        say(.fine)
        _exit(0)
    }
}
