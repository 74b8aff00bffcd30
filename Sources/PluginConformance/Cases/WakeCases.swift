extension ConformanceCase {
    /// Wakes and threads.
    static let wakes = [
        ConformanceCase("pending-wakes", "after PENDING the plugin calls wake when another poll makes sense") { run in
            let plugin = try run.plugin()
            let instance = try run.create(plugin)
            var options = ExchangeOptions()
            options.time = .seconds(4)
            options.quiet = nil
            options.frameLimit = 200
            var pendings = 0
            // A single late wake may be chance, so the rule is broken only if a wake is missing in every round.
            for milliseconds in [700, 900, 1100] {
                options.wakeTimeout = .milliseconds(milliseconds)
                let before = plugin.findings.count(.missedWake)
                pendings += try Exchange.run(run.requests, on: instance, options).pendings
                if plugin.findings.count(.missedWake) == before {
                    instance.destroy()
                    if pendings == 0 { throw CaseEnd(.skip, "no poll returned PENDING") }
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
            let failures = try run.compare(instance, options, what: "with polls without a wake")
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
                throw CaseEnd(.skip, "the plugin's functions never overlap (CHANSERV_PLUGIN_SERIAL)")
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
