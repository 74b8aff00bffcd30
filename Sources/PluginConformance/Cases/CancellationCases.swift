extension ConformanceCase {
    /// Cancellation by the client.
    static let cancellation = [
        ConformanceCase("cancel-sources", "a source may be cancelled before and after any poll") { run in
            try cancel(run) { !$0.isCall }
        },
        ConformanceCase("cancel-calls", "a call may be cancelled before and after any poll, while its sources go on") {
            run in
            try cancel(run) { $0.isCall }
        },
        ConformanceCase("cancel-overlapping", "cancel may come twice, from other threads, while a poll runs") { run in
            let plugin = try run.plugin()
            if plugin.descriptor.isSerial {
                throw CaseEnd(.skip, "the plugin's functions never overlap (CHANSERV_PLUGIN_SERIAL)")
            }
            let instance = try run.create(plugin)
            for round in 0..<60 where run.hasTime {
                var options = ExchangeOptions()
                options.frames.room = 1 + round % 3
                options.cancelsDuringPoll = { $0.polls > round % 3 }
                _ = try Exchange.run(run.requests, on: instance, options)
            }
            instance.destroy()
            return Verdict(.pass)
        },
        ConformanceCase("cancel-wakes", "an object that returned PENDING is woken after its cancellation") { run in
            let plugin = try run.plugin()
            let instance = try run.create(plugin)
            var pendings = 0
            for polls in 1..<5 where run.hasTime {
                var options = ExchangeOptions()
                options.cancelPatience = .seconds(3)
                options.time = options.cancelPatience + .seconds(1)
                options.plan = { $0.polls == polls ? .cancel : .goOn }
                pendings += try Exchange.run(run.requests, on: instance, options).pendings
            }
            instance.destroy()
            if pendings == 0 { throw CaseEnd(.skip, "no poll returned PENDING") }
            return Verdict.judge(failures: plugin.findings.of(.cancelWake))
        },
    ]

    /// Cancels after each number of polls: once with further polls, once with a close at once.
    private static func cancel(
        _ run: CaseRun, _ which: @escaping @Sendable (ExchangeOptions.Object) -> Bool
    ) throws(CaseEnd) -> Verdict {
        let instance = try run.create(run.plugin())
        for polls in 0..<12 where run.hasTime {
            for intervention in [ExchangeOptions.Intervention.cancel, .cancelAndClose] {
                // The case "open-and-close" tests a close before the first poll.
                if polls == 0, intervention == .cancelAndClose { continue }
                var options = ExchangeOptions()
                options.frames.room = 1
                options.sources.room = 2
                options.plan = { which($0) && $0.polls == polls ? intervention : .goOn }
                _ = try Exchange.run(run.requests, on: instance, options)
            }
        }
        instance.destroy()
        return Verdict(.pass)
    }
}
