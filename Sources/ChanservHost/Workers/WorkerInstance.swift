internal import Chanserv
internal import HostConfiguration
internal import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore
internal import PluginRuntime

/// Instance whose code runs in worker processes.
///
/// The host serves the routes itself and relays requests to the processes over separate links. So the mesh sees one
/// host, and error mass, limits, counters and drain work as without workers. Frames are relayed without decoding. The
/// end of a process ends only the requests in it, and the process is restarted.
final class WorkerInstance: ServingInstance {
    /// Parameters for starting the processes.
    struct Handling: Sendable {
        var plugin: String
        var program: String
        var library: ExaminedLibrary
        var configuration: PluginConfiguration
        var threads: Int
        var allowsInline: Bool
        var options: IsolationOptions
        var logger: Logger

        func start() async throws(PluginError) -> WorkerProcess {
            let assignment = WorkerAssignment(
                .serve, of: library, plugin: plugin, configurations: [configuration], threads: threads,
                allowsInline: allowsInline, options: options, logLevel: logger.logLevel.rawValue)
            return try await WorkerProcess.start(
                program: program, assignment: assignment, image: library.image, options: options, logger: logger)
        }
    }

    /// State of one of the processes.
    struct Slot {
        var process: WorkerProcess?
        var state = WorkerStatus.State.starting
        var restarts = 0
        var lastEnd: String?
        var open = 0
    }

    struct State {
        var slots: [Slot]
        var isRetiring = false
        var supervisors: [Task<Void, Never>] = []
        /// Index at which the search for the process with the fewest requests begins. It rotates among equal processes.
        var turn = 0
        /// Happens when a process serves again, or when the instance is retired.
        var arrival = OneTimeEvent()
        /// Counters of processes that have ended.
        var past = PluginStatistics.zero
        var requestsTotal = 0
    }

    let version: String
    let handling: Handling
    let onCrash: @Sendable (String) -> Void
    let state: NIOLockedValueBox<State>

    var name: String { handling.plugin }

    /// Starts the processes and waits until each of them serves.
    ///
    /// - Parameter onCrash: called for each process that ends unexpectedly, with the reason. Runs on any thread.
    /// - Throws: ``PluginError`` if a process did not start. All processes are ended then.
    static func create(
        _ handling: Handling, onCrash: @escaping @Sendable (String) -> Void
    ) async throws(PluginError) -> WorkerInstance {
        let results = await withTaskGroup(of: Result<WorkerProcess, PluginError>.self) { group in
            for _ in 0..<handling.options.processes {
                group.addTask {
                    do throws(PluginError) { return .success(try await handling.start()) } catch {
                        return .failure(error)
                    }
                }
            }
            var results: [Result<WorkerProcess, PluginError>] = []
            for await result in group { results.append(result) }
            return results
        }
        let processes = results.compactMap { try? $0.get() }
        for case .failure(let error) in results {
            for process in processes { await process.end() }
            throw error
        }
        return WorkerInstance(handling, processes, onCrash: onCrash)
    }

    private init(_ handling: Handling, _ processes: [WorkerProcess], onCrash: @escaping @Sendable (String) -> Void) {
        self.handling = handling
        self.onCrash = onCrash
        version = processes.first?.identification.version ?? ""
        state = NIOLockedValueBox(State(slots: processes.map { Slot(process: $0, state: .serving) }))
        for (number, process) in processes.enumerated() {
            let supervisor = Task { await supervise(number, process) }
            state.withLockedValue { $0.supervisors.append(supervisor) }
        }
    }

    // MARK: Requests

    func begin(_ request: Request, in scope: RequestScope, options: RouteOptions) {
        switch reserveSlot() {
        case .taken(let number, let process): relay(request, scope, options, number, process)
        case .refused(let error): refuse(scope, error)
        case .none:
            Task {
                do throws(PluginError) {
                    let (number, process) = try await waitForSlot()
                    relay(request, scope, options, number, process)
                } catch {
                    refuse(scope, error)
                }
            }
        }
    }

    private func relay(
        _ request: Request, _ scope: RequestScope, _ options: RouteOptions, _ number: Int, _ process: WorkerProcess
    ) {
        let relay = WorkerRelay(scope, to: process, plugin: name) { self.ended(in: number) }
        relay.start(request, options: options)
    }

    private func refuse(_ scope: RequestScope, _ error: PluginError) {
        scope.finish(error)
        scope.handlerFinished()
    }

    /// Maximum time for which a request waits for a process that is being restarted. The first pauses of the backoff
    /// are shorter. After that the client should try another host.
    private static let maximumWait = Duration.seconds(1)

    private enum Reservation {
        case taken(Int, WorkerProcess)
        case refused(PluginError)
        /// No process is available. Contains the event after which to retry, and the reason.
        case none(OneTimeEvent, why: String)
    }

    /// Reserves a slot in the process with the fewest requests. Waits if no process is available.
    private func waitForSlot() async throws(PluginError) -> (Int, WorkerProcess) {
        let deadline = ContinuousClock.now + Self.maximumWait
        while true {
            switch reserveSlot() {
            case .taken(let number, let process): return (number, process)
            case .refused(let error): throw error
            case .none(let arrival, let why):
                // `.busy` counts as a failure, so that a route without a working plugin is withdrawn and clients find
                // another host.
                guard await arrival.wait(until: deadline) else { throw PluginError(.busy, why) }
            }
        }
    }

    private func reserveSlot() -> Reservation {
        state.withLockedValue { state in
            if state.isRetiring { return .refused(PluginError(.withdrawn, "plugin \(name) is being replaced")) }
            let count = state.slots.count
            let numbers = (0..<count).map { ($0 + state.turn) % count }.filter { state.slots[$0].process != nil }
            guard let best = numbers.min(by: { state.slots[$0].open < state.slots[$1].open }),
                let process = state.slots[best].process
            else {
                let why = state.slots.compactMap(\.lastEnd).first.map { ": \($0)" } ?? ""
                return .none(state.arrival, why: "plugin \(name) is being restarted\(why)")
            }
            state.turn = (best + 1) % count
            state.slots[best].open += 1
            state.requestsTotal += 1
            return .taken(best, process)
        }
    }

    /// Wakes the requests that wait for a process.
    func wakeWaiting() {
        let arrival = state.withLockedValue { state in
            defer { state.arrival = OneTimeEvent() }
            return state.arrival
        }
        arrival.happened()
    }

    /// Records that no part of a request is open in the process.
    private func ended(in number: Int) {
        state.withLockedValue { $0.slots[number].open -= 1 }
    }

    // MARK: What it has done

    var workers: [WorkerStatus] {
        state.withLockedValue { state in
            state.slots.map {
                let unfinished = $0.process?.unfinishedRequests ?? 0
                return WorkerStatus(
                    process: $0.process?.id, state: $0.state, restarts: $0.restarts, lastEnd: $0.lastEnd,
                    openRequests: $0.open + unfinished, unfinishedRequests: unfinished)
            }
        }
    }

    var statistics: PluginStatistics {
        let (past, processes, total) = state.withLockedValue { state in
            (state.past, state.slots.compactMap(\.process), state.requestsTotal)
        }
        var all = processes.reduce(into: past) { $0 += $1.statistics }
        // The host's own count is exact; the processes report theirs only once a second.
        all.calls = total
        return all
    }

    // MARK: End

    func destroy(openRequests: Int, grace: Duration) async -> PluginInstance.Retirement {
        let (processes, supervisors) = state.withLockedValue { state in
            precondition(!state.isRetiring, "plugin \(name) is retired twice")
            state.isRetiring = true
            let processes = state.slots.compactMap(\.process)
            for number in state.slots.indices { state.slots[number].state = .retired }
            return (processes, state.supervisors)
        }
        wakeWaiting()
        for supervisor in supervisors { supervisor.cancel() }
        let allDestroyed = await withTaskGroup(of: Bool.self) { group in
            for process in processes { group.addTask { await process.retire(grace: grace) } }
            return await group.reduce(true) { $0 && $1 }
        }
        for supervisor in supervisors { await supervisor.value }
        if !allDestroyed {
            handling.logger.error("plugin \(name): a process did not end in time and was killed")
        }
        return openRequests == 0 && allDestroyed ? .destroyed : .killed(openCalls: openRequests)
    }
}
