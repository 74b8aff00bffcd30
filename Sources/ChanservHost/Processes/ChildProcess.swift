internal import CProcess
@preconcurrency internal import Dispatch
internal import Glibc
internal import NIOConcurrencyHelpers

/// A process started by this one and held by a pidfd, so that no signal can reach another that got its number.
///
/// It is the leader of a process group of its own: the terminal's Ctrl-C does not reach it, and what it started can be
/// ended with it. It inherits nothing but the descriptors it is given, starts with the signals as a shell leaves them,
/// and can ask to die with this process (`PR_SET_PDEATHSIG`), for the thread that starts it lives as long as this process.
///
/// It is taken away (waited for) as soon as it has ended, whether somebody waits here or not.
package final class ChildProcess: Sendable {
    /// What to start.
    package struct Program: Sendable {
        /// The file to execute.
        package var path: String
        /// From its name on.
        package var arguments: [String]
        /// `NAME=value` each; nothing else is passed on.
        package var environment: [String] = []
        /// Its standard input; nothing (`/dev/null`) by default.
        package var input: Int32?
        /// Its standard output; nothing (`/dev/null`) by default.
        package var output: Int32?
        /// Its standard error; nothing (`/dev/null`) by default.
        package var errors: Int32?
        /// What it has as descriptors 3, 4, …
        package var descriptors: [Int32] = []

        package init(_ path: String, _ arguments: [String]) {
            self.path = path
            self.arguments = arguments
        }
    }

    /// Its number. It is another's once the process was taken away: never signal it, use ``signal(_:)``.
    package let id: Int32
    private let descriptor: Int32
    private let watch: ReadSource
    private let ended = Event()
    private let result: NIOLockedValueBox<ChildExit?>

    /// Starts it.
    ///
    /// - Throws: ``ProcessError``.
    package static func start(_ program: Program) async throws(ProcessError) -> ChildProcess {
        try ChildProcess(holding: try await Spawner.spawn(program), of: program)
    }

    private init(holding id: pid_t, of program: Program) throws(ProcessError) {
        self.id = id
        descriptor = chanserv_pidfd_open(id)
        guard descriptor >= 0 else { throw Self.end(id, ProcessError("cannot hold \(program.path)", code: errno)) }
        let descriptor = descriptor
        let result = NIOLockedValueBox<ChildExit?>(nil)
        let ended = ended
        self.result = result
        watch = ReadSource(
            descriptor, on: Self.queue,
            onReadable: { watch in
                guard let exit = Self.wait(for: descriptor, WEXITED | WNOHANG | WNOWAIT) else { return }
                if exit != .unknown {
                    // What it has started and left behind; its number is not another group's as long as it was not taken away.
                    _ = Glibc.kill(-id, SIGKILL)
                    _ = Self.wait(for: descriptor, WEXITED | WNOHANG)
                }
                result.withLockedValue { $0 = exit }
                ended.happened()
                watch.cancel()
            },
            onCancel: { close(descriptor) })
        do throws(ProcessError) {
            try watch.activate()
        } catch {
            watch.cancel()
            throw Self.end(id, error)
        }
    }

    /// Ends a process that cannot be held, because the system is out of descriptors or memory: it must not be left alone.
    ///
    /// - Returns: `error`.
    private static func end(_ id: pid_t, _ error: ProcessError) -> ProcessError {
        _ = Glibc.kill(-id, SIGKILL)
        var status: Int32 = 0
        while waitpid(id, &status, 0) < 0 && errno == EINTR {}
        return error
    }

    private static let queue = DispatchQueue(label: "chanserv.children")

    /// - Returns: `nil` while it runs.
    private static func wait(for descriptor: Int32, _ options: Int32) -> ChildExit? {
        var information = siginfo_t()
        var code = chanserv_pidfd_wait(descriptor, &information, options)
        while code != 0 && errno == EINTR { code = chanserv_pidfd_wait(descriptor, &information, options) }
        // The system takes children away by itself where SIGCHLD is ignored, and a library may wait for whatever ends. This is
        // asked only when the pidfd says that the process has ended.
        if code != 0 && errno == ECHILD { return .unknown }
        guard code == 0, information.si_signo == SIGCHLD else { return nil }
        let status = chanserv_exit_status(&information)
        return information.si_code == CLD_EXITED ? .exited(status) : .signalled(status)
    }

    /// How it ended; `nil` while it runs.
    package var exit: ChildExit? { result.withLockedValue { $0 } }

    /// Sends a signal, unless it has ended.
    package func signal(_ number: Int32) {
        result.withLockedValue { result in
            if result == nil { _ = chanserv_pidfd_send_signal(descriptor, number) }
        }
    }

    /// Waits for its end, at the longest until `deadline` or the cancellation of the task.
    ///
    /// - Returns: how it ended; `nil` where it has not.
    package func waitForExit(until deadline: ContinuousClock.Instant) async -> ChildExit? {
        if let exit { return exit }
        _ = await ended.wait(until: deadline)
        return exit
    }

    /// Waits for its end, whatever becomes of the task.
    package func waitForExit() async -> ChildExit {
        await Task { await self.ended.wait() }.value
        guard let exit else { preconditionFailure("a process has ended without a result") }
        return exit
    }

    /// Ends it with SIGKILL and waits until it is gone. Repeating it, or doing it after its end, does no harm.
    @discardableResult
    package func kill() async -> ChildExit {
        signal(SIGKILL)
        return await waitForExit()
    }
}

/// Why a process could not be started.
package struct ProcessError: Error, Sendable, Hashable, CustomStringConvertible {
    package let description: String

    init(_ what: String, code: Int32) {
        description = "\(what): \(systemMessage(code))"
    }
}
