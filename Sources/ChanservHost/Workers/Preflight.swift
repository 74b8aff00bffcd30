internal import Glibc
internal import Logging
internal import NIOConcurrencyHelpers

/// Tries a library out in a short-lived process before any of its code runs in the host: one that crashes or hangs in a
/// constructor, in create or in destroy is refused.
struct Preflight: Sendable {
    /// chanserv's own executable.
    let program: String

    /// Private memory that a library may use: 4 GiB. Not address space, of which some runtimes reserve plenty and use none.
    static let dataLimit = 4 << 30

    /// - Parameters:
    ///   - library: what to try.
    ///   - plugin: as the configuration names it.
    ///   - configurations: of each instance that is to be made.
    ///   - threads: how many threads an instance of a library that blocks gets.
    ///   - options: how the plugin is run.
    /// - Returns: what is wrong; `nil` where nothing is.
    func problem(
        with library: ExaminedLibrary, plugin: String, configurations: [PluginConfiguration], threads: Int?,
        options: IsolationOptions
    ) async -> Problem? {
        var assignment = WorkerAssignment(
            .preflight, of: library, plugin: plugin, configurations: configurations, threads: threads, options: options,
            logLevel: Logger.Level.critical.rawValue)
        assignment.killAfter = nil
        assignment.dataLimit = Self.dataLimit
        do {
            return try await tryOut(assignment, library, options)
        } catch {
            return Problem(message: "cannot be tried out: \(error)", mayPass: true)
        }
    }

    /// Why a library is refused.
    struct Problem {
        /// What is to be said of the library, behind its name.
        var message: String
        /// Nothing says that the library is wrong: another time it may go well.
        var mayPass: Bool
    }

    private struct Seen {
        var doing = "its constructors"
        var isFine = false
        var refusal: String?
        var lastWords = LastWords()
    }

    private func tryOut(
        _ assignment: WorkerAssignment, _ library: ExaminedLibrary, _ options: IsolationOptions
    ) async throws -> Problem? {
        let launch = try await WorkerLaunch.start(program, assignment, library.image, options)
        // Nobody is served here.
        close(launch.link)
        let seen = NIOLockedValueBox(Seen())
        let reports = LineReader(launch.control, limit: WorkerLine.limit) { line in
            guard let report = WorkerLine.decode(line, as: WorkerReport.self) else { return }
            seen.withLockedValue { seen in
                switch report {
                case .doing(let what): seen.doing = what
                case .fine: seen.isFine = true
                case .refused(let message): seen.refusal = WorkerLine.brief(message)
                default: break
                }
            }
        }
        let printed = LineReader(launch.output, limit: LastWords.lineLimit) { line in
            seen.withLockedValue { $0.lastWords.printed(line) }
        }
        let exit = await launch.child.waitForExit(until: .now + options.startup)
        if exit == nil { await launch.child.kill() }
        for reader in [reports, printed] {
            await reader.waitForEnd(until: .now + .milliseconds(500))
            reader.cancel()
        }
        return Self.problem(seen.withLockedValue { $0 }, exit, options)
    }

    /// - Parameter exit: how it ended; `nil` where it was killed because its time was over.
    private static func problem(_ seen: Seen, _ exit: ChildExit?, _ options: IsolationOptions) -> Problem? {
        if seen.isFine { return nil }
        if let refusal = seen.refusal { return Problem(message: refusal, mayPass: false) }
        let said = "\(seen.lastWords)\(options.limits.hint)"
        guard let exit else {
            // A busy machine may be all that is wrong.
            return Problem(
                message: """
                    was tried out in a process of its own, where \(seen.doing) did not return within \(options.startup) \
                    (startup)\(said)
                    """, mayPass: true)
        }
        return Problem(
            message: "was tried out in a process of its own, which \(exit) in \(seen.doing)\(said)", mayPass: false)
    }
}
