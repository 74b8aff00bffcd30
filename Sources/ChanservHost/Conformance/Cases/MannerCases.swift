internal import CChanservPlugin

extension ConformanceCase {
    /// What a plugin says, and what it must leave alone.
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
        ConformanceCase("host-calls", "the functions of host and sinks are called as the header says") { run in
            let plugin = try run.plugin()
            try run.exercise(plugin)
            return Verdict.judge(failures: plugin.findings.of([.hostTable, .sink]))
        },
        ConformanceCase("budget", "functions return within a millisecond or so (unless CHANSERV_PLUGIN_BLOCKING)") {
            run in
            let plugin = try run.plugin()
            if plugin.descriptor.isBlocking { throw CaseEnd(.skip, "it may block (CHANSERV_PLUGIN_BLOCKING)") }
            let instance = try run.create(plugin)
            // A busy machine makes some calls long; only a function that is slow every time is the plugin's doing.
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
                "\(function.name) took \(time / 1_000_000) ms; answer CHANSERV_PENDING and work on a thread of your own, "
                    + "or set CHANSERV_PLUGIN_BLOCKING"
            }
            return Verdict.judge(failures: [], warnings: warnings)
        },
        // What was written is seen by the process that started this one.
        ConformanceCase(silentName, "nothing is written to standard output and standard error (host->log is for that)")
        { run in
            try run.exercise(run.plugin())
            return Verdict(.pass)
        },
        ConformanceCase(
            "process-state", "signal handlers and masks, folder, umask, environment and locale are left alone"
        ) { run in
            let plugin = try run.plugin(watchesThreads: true)
            try run.exercise(plugin)
            let changes = ProcessState().changes(since: ProcessState.beforeLoading)
            if !changes.isEmpty, run.library.isGo {
                return Verdict(.warn, changes.map { "\($0) (Go's runtime does that)" })
            }
            return Verdict.judge(failures: plugin.findings.of(.threadState) + changes)
        },
        // The process of this case ends as programs do, and the one that started it looks how.
        ConformanceCase(exitName, "a process that has used the plugin ends well: handlers, destructors and threads too")
        { run in
            try run.exercise(run.plugin())
            return Verdict(.pass)
        },
    ]

    /// Fails where anything was written.
    static let silentName = "silence"
    /// Ends with exit instead of _exit.
    static let exitName = "exit"
}
