internal import CProcess
@preconcurrency internal import Dispatch
internal import Glibc
internal import NIOConcurrencyHelpers

/// Child process, identified by a pidfd so that a signal cannot reach another process that got the same id.
///
/// It leads its own process group. So the terminal's Ctrl-C does not reach it, and the programs that it started can be
/// ended with it. It inherits only the descriptors that it is given, and starts with default signal dispositions. It
/// may request to die with this process (`PR_SET_PDEATHSIG`), because the thread that starts it lives as long as this
/// process.
///
/// It is reaped as soon as it has ended, even if no caller waits for it.
package final class ChildProcess: Sendable {
    /// Program to start, with its environment and descriptors.
    package struct Program: Sendable {
        /// Path of the executable.
        package var path: String
        /// Arguments, beginning with the name of the program.
        package var arguments: [String]
        /// Environment as `NAME=value` strings. The process gets no other variables.
        package var environment: [String] = []
        /// Descriptor for standard input; `nil`, the default, is `/dev/null`.
        package var input: Int32?
        /// Descriptor for standard output; `nil`, the default, is `/dev/null`.
        package var output: Int32?
        /// Descriptor for standard error; `nil`, the default, is `/dev/null`.
        package var errors: Int32?
        /// Descriptors that the process gets as 3, 4, …
        package var descriptors: [Int32] = []

        package init(_ path: String, _ arguments: [String]) {
            self.path = path
            self.arguments = arguments
        }
    }

    /// Process id. Another process may reuse it after this one was reaped, so send signals only with ``signal(_:)``.
    package let id: Int32
    private let descriptor: Int32
    private let watch: ReadSource
    private let ended = OneTimeEvent()
    private let result: NIOLockedValueBox<ChildExit?>

    /// Starts a process.
    ///
    /// - Throws: ``ProcessError``.
    package static func start(_ program: Program) async throws(ProcessError) -> ChildProcess {
        try ChildProcess(holding: try await Spawner.spawn(program), of: program)
    }

    private init(holding id: pid_t, of program: Program) throws(ProcessError) {
        self.id = id
        descriptor = chanserv_pidfd_open(id)
        guard descriptor >= 0 else { throw Self.end(id, ProcessError("cannot watch \(program.path)", code: errno)) }
        let descriptor = descriptor
        let result = NIOLockedValueBox<ChildExit?>(nil)
        let ended = ended
        self.result = result
        watch = ReadSource(
            descriptor, on: Self.queue,
            onReadable: { watch in
                guard let exit = Self.wait(for: descriptor, WEXITED | WNOHANG | WNOWAIT) else { return }
                if exit != .unknown {
                    // Kills the remaining programs of its process group. The id cannot belong to another group before
                    // the process is reaped.
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

    /// Kills and reaps a process that cannot be watched because the system is out of descriptors or memory.
    ///
    /// - Returns: `error`.
    private static func end(_ id: pid_t, _ error: ProcessError) -> ProcessError {
        _ = Glibc.kill(-id, SIGKILL)
        var status: Int32 = 0
        while waitpid(id, &status, 0) < 0 && errno == EINTR {}
        return error
    }

    private static let queue = DispatchQueue(label: "chanserv.children")

    /// - Returns: the manner in which the process ended; `nil` while it runs.
    private static func wait(for descriptor: Int32, _ options: Int32) -> ChildExit? {
        var information = siginfo_t()
        var code = chanserv_pidfd_wait(descriptor, &information, options)
        while code != 0 && errno == EINTR { code = chanserv_pidfd_wait(descriptor, &information, options) }
        // The system reaps children itself if SIGCHLD is ignored, and a library may wait for any child. This runs only
        // when the pidfd reports that the process has ended.
        if code != 0 && errno == ECHILD { return .unknown }
        guard code == 0, information.si_signo == SIGCHLD else { return nil }
        let status = chanserv_exit_status(&information)
        return information.si_code == CLD_EXITED ? .exited(status) : .signalled(status)
    }

    /// The manner in which the process ended; `nil` while it runs.
    package var exit: ChildExit? { result.withLockedValue { $0 } }

    /// Sends a signal, unless the process has ended.
    package func signal(_ number: Int32) {
        result.withLockedValue { result in
            if result == nil { _ = chanserv_pidfd_send_signal(descriptor, number) }
        }
    }

    /// Waits for the end of the process, until `deadline` or the cancellation of the task.
    ///
    /// - Returns: the manner in which it ended; `nil` if it has not ended.
    package func waitForExit(until deadline: ContinuousClock.Instant) async -> ChildExit? {
        if let exit { return exit }
        _ = await ended.wait(until: deadline)
        return exit
    }

    /// Waits for the end of the process. A cancellation of the task does not end the wait.
    package func waitForExit() async -> ChildExit {
        await Task { await self.ended.wait() }.value
        guard let exit else { preconditionFailure("a process has ended without a result") }
        return exit
    }

    /// Kills the process with SIGKILL and waits until it has ended. May be called repeatedly and after the end.
    @discardableResult
    package func kill() async -> ChildExit {
        signal(SIGKILL)
        return await waitForExit()
    }
}

/// Error that prevented a process from being started.
package struct ProcessError: Error, Sendable, Hashable, CustomStringConvertible {
    package let description: String

    package init(_ what: String, code: Int32) {
        description = "\(what): \(systemMessage(code))"
    }
}
