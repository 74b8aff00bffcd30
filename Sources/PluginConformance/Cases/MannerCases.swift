internal import CChanservPlugin

extension ConformanceCase {
    /// Return values, messages, and side effects on the process.
    static let manners = [
        ConformanceCase("statuses", "functions return what the header documents for them") { run in
            let plugin = try run.plugin()
            try run.exercise(plugin)
            return Verdict.judge(
                failures: plugin.findings.of(.status), warnings: plugin.findings.of(.unknownError))
        },
        ConformanceCase("error-messages", "error messages are UTF-8, end in a zero, and stay within their buffer") {
            run in
            var failures: [String] = []
            var warnings: [String] = []
            for capacity in [1024, 16, 2, 1] {
                let plugin = try run.plugin(errorCapacity: capacity)
                try run.exercise(plugin)
                failures += plugin.findings.of(.errorText)
                warnings = plugin.findings.of(.noErrorText)
            }
            return Verdict.judge(failures: Array(failures.prefix(5)), warnings: warnings)
        },
        ConformanceCase("host-calls", "the functions of the host and of sinks are called as documented") { run in
            let plugin = try run.plugin()
            try run.exercise(plugin)
            return Verdict.judge(failures: plugin.findings.of([.hostTable, .sink]))
        },
        ConformanceCase("budget", "functions return within a millisecond or so (unless CHANSERV_PLUGIN_BLOCKING)") {
            run in
            let plugin = try run.plugin()
            if plugin.descriptor.isBlocking { throw CaseEnd(.skip, "the plugin may block (CHANSERV_PLUGIN_BLOCKING)") }
            let instance = try run.create(plugin)
            // Other load of the machine can delay single calls, so only a function that is slow in every round counts.
            var slowest: [PluginFunction: UInt64] = [:]
            for round in 0..<3 {
                _ = plugin.takeTimings()
                _ = try Exchange.run(run.requests, on: instance)
                let timings = plugin.takeTimings().mapValues(\.longest).filter { $0.value > 10_000_000 }
                slowest = round == 0 ? timings : timings.filter { slowest[$0.key] != nil }
                if slowest.isEmpty { break }
            }
            instance.destroy()
            let warnings = slowest.sorted { $0.key.rawValue < $1.key.rawValue }.map { function, time in
                "\(function.name) took \(time / 1_000_000) ms; return CHANSERV_PENDING and work on a thread of the "
                    + "plugin, or set CHANSERV_PLUGIN_BLOCKING"
            }
            return Verdict.judge(failures: [], warnings: warnings)
        },
        // The parent process checks the output.
        ConformanceCase(silentName, "nothing is written to standard output and standard error (use host->log)") { run in
            try run.exercise(run.plugin())
            return Verdict(.pass)
        },
        ConformanceCase(
            "process-state", "signal handlers and masks, folder, umask, environment and locale stay unchanged"
        ) { run in
            let plugin = try run.plugin(watchesThreads: true)
            try run.exercise(plugin)
            let changes = ProcessState().changes(since: ProcessState.beforeLoading)
            if !changes.isEmpty, run.library.isGo {
                return Verdict(.warn, changes.map { "\($0) (Go's runtime does that)" })
            }
            return Verdict.judge(failures: plugin.findings.of(.threadState) + changes)
        },
        // The child process ends with exit, and the parent checks how.
        ConformanceCase(exitName, "a process that has used the plugin ends normally (handlers, destructors, threads)") {
            run in
            try run.exercise(run.plugin())
            return Verdict(.pass)
        },
    ]

    /// The case fails if the child has written anything.
    static let silentName = "silence"
    /// The child ends with exit instead of _exit.
    static let exitName = "exit"
}
