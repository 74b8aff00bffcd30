import ChanservPlugin
import Glibc
import Synchronization

/// The running commands of an instance, and the thread that waits for them.
final class Processes: Sendable {
    private struct State {
        var running: [pid_t: RunningProcess] = [:]
        /// The number of commands that are running or being started.
        var taken = 0
        var isStopped = false
    }

    private let limit: Int
    private let reactor: Reactor
    private let state = Mutex(State())

    /// - Parameter limit: maximum concurrent commands.
    init(limit: Int) throws(SystemError) {
        self.limit = limit
        reactor = try Reactor()
    }

    /// Starts a command. The caller must call ``release(_:)`` after its end.
    ///
    /// - Returns: the process and the readers of its standard output and standard error. When a reader is released, the
    ///   command's pipe breaks.
    func start(
        _ invocation: Invocation, grace: Duration
    ) throws -> (process: RunningProcess, output: Descriptor, errors: Descriptor) {
        let isTaken = state.withLock { state in
            guard state.taken < limit, !state.isStopped else { return false }
            state.taken += 1
            return true
        }
        guard isTaken else { throw PluginError(.busy, "the limit of \(limit) running commands is reached") }
        do {
            let child = try Child(invocation)
            let process = RunningProcess(
                child, reactor: reactor, timeout: invocation.command.timeout, grace: grace)
            // If the instance was stopped meanwhile, no other code would end the process.
            let isLate = state.withLock { state in
                state.running[process.id] = process
                return state.isStopped
            }
            if isLate { process.finish() }
            return (process, child.output, child.errors)
        } catch {
            state.withLock { $0.taken -= 1 }
            throw error
        }
    }

    func release(_ process: RunningProcess) {
        state.withLock { state in
            // The process number may have been reused for a new process.
            if state.running[process.id] === process { state.running[process.id] = nil }
            state.taken -= 1
        }
    }

    /// Kills all running commands and waits for their end. No command starts afterwards.
    func stop() {
        let running = state.withLock { state in
            state.isStopped = true
            return Array(state.running.values)
        }
        for process in running { process.finish() }
        reactor.stop()
    }
}
