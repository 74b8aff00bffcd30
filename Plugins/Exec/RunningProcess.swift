import Glibc
import Synchronization

/// A command from its start until nothing of it is left.
///
/// Its number, and that of its group, are its own as long as its status was not taken away: signals and that are under
/// one lock.
final class RunningProcess: Sendable {
    private struct State {
        var isOver = false
        var status: Int32?
    }

    let id: pid_t
    /// Readable when it has ended.
    private let end: Descriptor
    private let reactor: Reactor
    private let state = Mutex(State())
    /// The part of its life that ``terminate()`` ends: whether it ended before its time was over.
    private let free: Task<Bool, any Error>
    private let grace: Duration

    init(_ child: Child, reactor: Reactor, timeout: Duration?, grace: Duration) {
        id = child.id
        end = child.end
        self.reactor = reactor
        self.grace = grace
        // Of the child only this: the task must not hold its pipes.
        free = Task { [end] in try await reactor.readable(end, within: timeout) }
    }

    /// Asks it to end, as at a timeout. May repeat.
    func terminate() { free.cancel() }

    /// Waits until it has ended, and sees to it that it does once it is to. Not cancelled with the task. To be called once.
    func exit() async -> Exit {
        var timedOut = false
        do {
            timedOut = try await !free.value
            if !timedOut { return Exit(status: finish(), timedOut: false) }
        } catch {
            // It is to end.
        }
        signal(SIGTERM)
        // In tasks of their own: this one may be cancelled already.
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
            return true  // the reactor was stopped, after it was killed
        }
    }

    /// Waits until there is something to read, or the command has ended, and then nothing of it is left.
    func readable(_ pipe: Descriptor) async throws {
        _ = try await reactor.readable(pipe, end)
        var polled = pollfd(fd: end.number, events: Int16(POLLIN), revents: 0)
        if poll(&polled, 1, 0) > 0 { finish() }
    }

    var isOver: Bool { state.withLock { $0.isOver } }

    /// Sends a signal to the whole group, and to the command, which may have left it, unless it is gone.
    private func signal(_ number: Int32) {
        state.withLock { state in
            guard !state.isOver else { return }
            _ = kill(-id, number)
            _ = kill(id, number)
        }
    }

    /// Kills what is left of the group and takes the status away, waiting for it where it is not there yet.
    @discardableResult
    func finish() -> Int32? {
        state.withLock { state in
            guard !state.isOver else { return state.status }
            // While the status is there, no other group can have the number.
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
