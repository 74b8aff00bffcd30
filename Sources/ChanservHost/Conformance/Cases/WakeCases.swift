extension ConformanceCase {
    /// Waiting, and threads.
    static let wakes = [
        ConformanceCase("pending-wakes", "after PENDING there is a wake when asking again makes sense") { run in
            let plugin = try run.plugin()
            let instance = try run.create(plugin)
            var options = ExchangeOptions()
            options.time = .seconds(4)
            options.quiet = nil
            options.frameLimit = 200
            var pendings = 0
            // A wake that comes late by chance is not owed the next time: only what happens every time counts.
            for patience in [700, 900, 1100] {
                options.patience = .milliseconds(patience)
                let before = plugin.findings.count(.missedWake)
                pendings += try Exchange.run(run.requests, on: instance, options).pendings
                if plugin.findings.count(.missedWake) == before {
                    instance.destroy()
                    if pendings == 0 { throw CaseEnd(.skip, "nothing answered PENDING") }
                    return Verdict(.pass)
                }
            }
            instance.destroy()
            return Verdict(.fail, plugin.findings.of(.missedWake))
        },
        ConformanceCase("unasked-polls", "a poll without a wake before it does no harm") { run in
            let instance = try run.create(run.plugin())
            var options = ExchangeOptions()
            options.pollsUnasked = true
            let failures = try run.compare(instance, options, what: "with polls that nobody had asked for")
            instance.destroy()
            return Verdict.judge(failures: failures)
        },
        ConformanceCase("moving-threads", "polls of an object may move from thread to thread") { run in
            let instance = try run.create(run.plugin())
            var options = ExchangeOptions()
            options.threads = 4
            options.movesBetweenThreads = true
            let failures = try run.compare(instance, options, what: "with each poll on another thread")
            instance.destroy()
            return Verdict.judge(failures: failures)
        },
        ConformanceCase("parallel-sources", "sources are polled at the same time, and as soon as they are added") {
            run in
            let plugin = try run.plugin()
            if plugin.descriptor.isSerial {
                throw CaseEnd(.skip, "its functions never overlap (CHANSERV_PLUGIN_SERIAL)")
            }
            let instance = try run.create(plugin)
            var options = ExchangeOptions()
            options.threads = 4
            options.overlapsWithinCall = true
            var failures: [String] = []
            for _ in 0..<3 where run.hasTime && failures.isEmpty {
                failures = try run.compare(instance, options, what: "with sources polled at the same time")
            }
            instance.destroy()
            return Verdict.judge(failures: failures)
        },
    ]
}
