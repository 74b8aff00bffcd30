internal import Glibc
internal import HostConfiguration
internal import Logging
internal import NIOConcurrencyHelpers
internal import PluginRuntime

/// Test of a library in a short-lived process before any of its code runs elsewhere. A library that crashes or hangs in
/// a constructor, in create or in destroy is refused.
struct Preflight: Sendable {
    /// Path of chanserv's own executable.
    let program: String
    /// Whether an error of the library, or of an instance that it refuses to create, is a problem too. By default only
    /// crashes and hangs are, because the host finds and reports orderly errors itself.
    var reportsRefusals = false

    /// Maximum private memory of the process: 4 GiB. Address space is not limited, because some runtimes reserve much
    /// more than they use.
    static let dataLimit = 4 << 30

    /// Runs the preflight.
    ///
    /// - Parameters:
    ///   - library: the library to test.
    ///   - plugin: name of the plugin in the configuration.
    ///   - configurations: configuration of each instance that will be created.
    ///   - threads: number of threads of an instance of a blocking library.
    ///   - options: isolation options of the plugin.
    /// - Returns: the problem, or `nil` if there is none.
    func problem(
        with library: ExaminedLibrary, plugin: String, configurations: [PluginConfiguration], threads: Int,
        options: IsolationOptions
    ) async -> Problem? {
        var assignment = WorkerAssignment(
            .preflight, of: library, plugin: plugin, configurations: configurations, threads: threads, options: options,
            logLevel: Logger.Level.critical.rawValue)
        assignment.killAfter = nil
        assignment.dataLimit = Self.dataLimit
        assignment.reportsRefusals = reportsRefusals
        do {
            return try await runProcess(assignment, library, options)
        } catch {
            return Problem(message: "cannot be tested in a worker process: \(error)", isTemporary: true)
        }
    }

    /// Reason for refusing a library.
    struct Problem {
        /// Text that follows the name of the library, or the whole message of a refusal.
        var message: String
        /// Whether the library itself gave the reason.
        var isRefusal = false
        /// Whether the cause may be temporary, so that another attempt may succeed.
        var isTemporary: Bool

        /// Returns the whole message.
        func text(of path: String) -> String { isRefusal ? message : "\(path) \(message)" }
    }

    private struct Progress {
        var doing = "its constructors"
        var isFine = false
        var refusal: String?
        var lastOutput = LastOutput()
    }

    private func runProcess(
        _ assignment: WorkerAssignment, _ library: ExaminedLibrary, _ options: IsolationOptions
    ) async throws -> Problem? {
        let launch = try await WorkerLaunch.start(program, assignment, library.image, options)
        // A preflight serves no requests.
        close(launch.link)
        let progress = NIOLockedValueBox(Progress())
        let reports = LineReader(launch.control, limit: WorkerLine.limit) { line in
            guard let report = WorkerLine.decode(line, as: WorkerReport.self) else { return }
            progress.withLockedValue { progress in
                switch report {
                case .doing(let what): progress.doing = WorkerLine.brief(what)
                case .fine: progress.isFine = true
                case .refused(let message): progress.refusal = WorkerLine.brief(message)
                default: break
                }
            }
        }
        let printed = LineReader(launch.output, limit: LastOutput.lineLimit) { line in
            progress.withLockedValue { $0.lastOutput.printed(line) }
        }
        let exit = await launch.child.waitForExit(until: .now + options.startup)
        if exit == nil { await launch.child.kill() }
        for reader in [reports, printed] {
            await reader.waitForEnd(until: .now + .milliseconds(500))
            reader.cancel()
        }
        return Self.problem(progress.withLockedValue { $0 }, exit, options)
    }

    /// - Parameter exit: how the process ended; `nil` if it exceeded `startup` and was killed.
    private static func problem(_ progress: Progress, _ exit: ChildExit?, _ options: IsolationOptions) -> Problem? {
        if progress.isFine { return nil }
        if let refusal = progress.refusal { return Problem(message: refusal, isRefusal: true, isTemporary: false) }
        let details = "\(progress.lastOutput)\(options.limits.hint)"
        guard let exit else {
            // The cause may be a busy machine.
            return Problem(
                message: """
                    failed the preflight: \(progress.doing) did not return within \(ValueGrammar.text(options.startup)) (startup)\(details)
                    """, isTemporary: true)
        }
        return Problem(
            message: "failed the preflight: its process \(exit) in \(progress.doing)\(details)", isTemporary: false)
    }
}
