import ChanservPlugin
import Glibc
import Synchronization

/// The running commands of an instance, and the thread that waits for them.
final class Processes: Sendable {
    private struct State {
        var running: [pid_t: RunningProcess] = [:]
        /// The number of commands that run or are being started.
        var count = 0
        var isStopped = false
    }

    private let limit: Int
    private let reactor: Reactor
    private let state = Mutex(State())

    /// - Parameter most: The maximum number of commands that run at the same time.
    init(most limit: Int) throws(SystemError) {
        self.limit = limit
        reactor = try Reactor()
    }

    /// Starts a command. The caller calls ``release(_:)`` when it has ended.
    ///
    /// - Returns: The process, and the read ends of its standard output and standard error. If the caller releases one,
    ///   the command's next write to it fails.
    /// - Throws: `PluginError` (busy) at the limit, and `SystemError`.
    func start(
        _ invocation: Invocation, grace: Duration
    ) throws -> (process: RunningProcess, output: Descriptor, errors: Descriptor) {
        let isAdmitted = state.withLock { state in
            guard state.count < limit, !state.isStopped else { return false }
            state.count += 1
            return true
        }
        guard isAdmitted else { throw PluginError(.busy, "\(limit) commands are running already") }
        do {
            let child = try Child(invocation)
            let process = RunningProcess(
                child, reactor: reactor, timeout: invocation.command.timeout, grace: grace)
            // If the instance was stopped meanwhile, stop() did not see this process, so it is ended here.
            let isLate = state.withLock { state in
                state.running[process.id] = process
                return state.isStopped
            }
            if isLate { process.finish() }
            return (process, child.output, child.errors)
        } catch {
            state.withLock { $0.count -= 1 }
            throw error
        }
    }

    /// Removes an ended command, so that another one may start.
    func release(_ process: RunningProcess) {
        state.withLock { state in
            // The process id may already belong to a newer command.
            if state.running[process.id] === process { state.running[process.id] = nil }
            state.count -= 1
        }
    }

    /// Kills all running commands and waits until they have ended. No command starts afterwards.
    func stop() {
        let running = state.withLock { state in
            state.isStopped = true
            return Array(state.running.values)
        }
        for process in running { process.finish() }
        reactor.stop()
    }
}
