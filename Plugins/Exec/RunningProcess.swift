import Glibc
import Synchronization

/// A command from its start until nothing of its process group is left.
///
/// The numbers of the process and of its group cannot be reused until its exit status is collected. Signals and the
/// collection of the status are therefore serialised by one lock.
final class RunningProcess: Sendable {
    private struct State {
        var isOver = false
        var status: Int32?
    }

    let id: pid_t
    /// Readable after the process has ended.
    private let end: Descriptor
    private let reactor: Reactor
    private let state = Mutex(State())
    /// Waits for the end of the process or the timeout. ``terminate()`` cancels it. The result is whether the process
    /// ended before the timeout.
    private let endOrTimeout: Task<Bool, any Error>
    private let grace: Duration

    init(_ child: Child, reactor: Reactor, timeout: Duration?, grace: Duration) {
        id = child.id
        end = child.end
        self.reactor = reactor
        self.grace = grace
        // Captures `end` only, because the task must not hold the pipes of the child.
        endOrTimeout = Task { [end] in try await reactor.readable(end, within: timeout) }
    }

    /// Ends the process in the same way as a timeout. Further calls do nothing.
    func terminate() { endOrTimeout.cancel() }

    /// Waits for the end of the process, and ends it after a timeout or ``terminate()``. Ignores cancellation of the
    /// task. Called once.
    func exit() async -> Exit {
        var timedOut = false
        do {
            timedOut = try await !endOrTimeout.value
            if !timedOut { return Exit(status: finish(), timedOut: false) }
        } catch {
            // The process must end.
        }
        signal(SIGTERM)
        // In new tasks, because this task may already be cancelled.
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
            return true  // the reactor was stopped, after the process was killed
        }
    }

    /// Waits until the pipe is readable or the process has ended. In the latter case it kills the rest of the group.
    func readable(_ pipe: Descriptor) async throws {
        _ = try await reactor.readable(pipe, end)
        var polled = pollfd(fd: end.number, events: Int16(POLLIN), revents: 0)
        if poll(&polled, 1, 0) > 0 { finish() }
    }

    var isOver: Bool { state.withLock { $0.isOver } }

    /// Sends a signal to the group, and to the process, which may have left the group. Does nothing after the end of
    /// the process.
    private func signal(_ number: Int32) {
        state.withLock { state in
            guard !state.isOver else { return }
            _ = kill(-id, number)
            _ = kill(id, number)
        }
    }

    /// Kills the rest of the group and collects the exit status. Waits for the status if necessary.
    @discardableResult
    func finish() -> Int32? {
        state.withLock { state in
            guard !state.isOver else { return state.status }
            // Until the status is collected, no other group can have the number.
            _ = kill(-id, SIGKILL)
            _ = kill(id, SIGKILL)
            var status: Int32 = 0
            var taken: pid_t
            repeat { taken = waitpid(id, &status, 0) } while taken < 0 && errno == EINTR
            state.isOver = true
            state.status = taken == id ? status : nil
            return state.status
        }
    }
}
