import ChanservPlugin
import Glibc
import Synchronization

/// The commands of an instance that run, and the thread that waits for them.
final class Processes: Sendable {
    private struct State {
        var running: [pid_t: RunningProcess] = [:]
        /// Places that are taken, those of commands that are being started too.
        var taken = 0
        var isStopped = false
    }

    private let most: Int
    private let reactor: Reactor
    private let state = Mutex(State())

    /// - Parameter most: how many run at the same time.
    init(most: Int) throws(SystemError) {
        self.most = most
        reactor = try Reactor()
    }

    /// Starts a command; ``release(_:)`` it when it has ended.
    ///
    /// - Returns: it, and what reads its standard output and standard error: the command sees it when these are gone.
    func start(
        _ invocation: Invocation, grace: Duration
    ) throws -> (process: RunningProcess, output: Descriptor, errors: Descriptor) {
        let isTaken = state.withLock { state in
            guard state.taken < most, !state.isStopped else { return false }
            state.taken += 1
            return true
        }
        guard isTaken else { throw PluginError(.busy, "\(most) commands are running already") }
        do {
            let child = try Child(invocation)
            let process = RunningProcess(
                child, reactor: reactor, timeout: invocation.command.timeout, grace: grace)
            // Where the instance was let go of meanwhile, nobody else would end it.
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
            // A new one may have the number by now.
            if state.running[process.id] === process { state.running[process.id] = nil }
            state.taken -= 1
        }
    }

    /// Kills all that is left, and waits for it. None starts afterwards.
    func stop() {
        let running = state.withLock { state in
            state.isStopped = true
            return Array(state.running.values)
        }
        for process in running { process.finish() }
        reactor.stop()
    }
}
