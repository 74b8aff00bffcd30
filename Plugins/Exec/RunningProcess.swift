import Glibc
import Synchronization

/// A command, from its start until all processes of its group have ended.
///
/// The system reuses the process id and the group id only after the process is reaped. One lock covers signals and
/// reaping, so a signal never reaches a foreign process.
final class RunningProcess: Sendable {
    private struct State {
        var isOver = false
        var status: Int32?
    }

    let id: pid_t
    /// The process's pidfd: readable when the process has ended.
    private let end: Descriptor
    private let reactor: Reactor
    private let state = Mutex(State())
    /// Waits for the end of the process; `false` after the timeout. ``terminate()`` cancels it.
    private let endOrTimeout: Task<Bool, any Error>
    private let grace: Duration

    init(_ child: Child, reactor: Reactor, timeout: Duration?, grace: Duration) {
        id = child.id
        end = child.end
        self.reactor = reactor
        self.grace = grace
        // The task captures only the pidfd, because it must not keep the pipes of the child open.
        endOrTimeout = Task { [end] in try await reactor.readable(end, within: timeout) }
    }

    /// Starts termination, as a timeout does: ``exit()`` sends SIGTERM. May be called more than once.
    func terminate() { endOrTimeout.cancel() }

    /// Waits until the process has ended, and returns how it ended.
    ///
    /// After ``terminate()`` or the timeout, this function sends SIGTERM, and SIGKILL after the grace period. It still
    /// waits if the current task is cancelled. Must be called once.
    func exit() async -> Exit {
        var timedOut = false
        do {
            timedOut = try await !endOrTimeout.value
            if !timedOut { return Exit(status: finish(), timedOut: false) }
        } catch {
            // Termination was requested.
        }
        signal(SIGTERM)
        // Separate tasks, because the current task may already be cancelled.
        if await !Task(operation: { await hasEnded(within: grace) }).value {
            signal(SIGKILL)
            _ = await Task { await hasEnded(within: nil) }.value
        }
        return Exit(status: finish(), timedOut: timedOut)
    }

    private func hasEnded(within time: Duration?) async -> Bool {
        do {
            return try await reactor.readable(end, within: time)
        } catch {
            return true  // the reactor was stopped; the process was killed before
        }
    }

    /// Waits until `pipe` is readable or the process has ended. In the second case it also calls ``finish()``.
    func readable(_ pipe: Descriptor) async throws {
        _ = try await reactor.readable(pipe, end)
        var polled = pollfd(fd: end.number, events: Int16(POLLIN), revents: 0)
        if poll(&polled, 1, 0) > 0 { finish() }
    }

    var isOver: Bool { state.withLock { $0.isOver } }

    /// Sends a signal to the whole group, unless the process was reaped. It also signals the process itself, because
    /// the process may have left the group.
    private func signal(_ number: Int32) {
        state.withLock { state in
            guard !state.isOver else { return }
            _ = kill(-id, number)
            _ = kill(id, number)
        }
    }

    /// Kills the rest of the group, reaps the process and returns its wait status. Blocks until the process has ended.
    ///
    /// - Returns: `nil` if other code in the process has reaped it.
    @discardableResult
    func finish() -> Int32? {
        state.withLock { state in
            guard !state.isOver else { return state.status }
            // The process is not reaped yet, so no other group can have this id.
            _ = kill(-id, SIGKILL)
            _ = kill(id, SIGKILL)
            var status: Int32 = 0
            var reaped: pid_t
            repeat { reaped = waitpid(id, &status, 0) } while reaped < 0 && errno == EINTR
            state.isOver = true
            state.status = reaped == id ? status : nil
            return state.status
        }
    }
}
