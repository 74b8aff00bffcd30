extension ConformanceCase {
    /// Sinks with little room.
    static let sinks = [
        ConformanceCase("tiny-sinks", "with room for one source and one frame a poll, nothing is lost") { run in
            let instance = try run.create(run.plugin())
            var options = ExchangeOptions()
            options.frames.room = 1
            options.sources.room = 1
            let failures = try run.compare(instance, options, what: "with tiny sinks")
            instance.destroy()
            return Verdict.judge(failures: failures)
        },
        ConformanceCase("full-sinks", "an element that a full sink refused is offered again, after READY") {
            run in
            let plugin = try run.plugin()
            let instance = try run.create(plugin)
            var options = ExchangeOptions()
            options.frames.room = 3
            options.frames.isFullEveryOtherPoll = true
            options.sources.room = 3
            options.sources.isFullEveryOtherPoll = true
            let failures = try run.compare(instance, options, what: "with sinks that are full in every other poll")
            instance.destroy()
            return Verdict.judge(failures: plugin.findings.of(.afterFull) + failures)
        },
        ConformanceCase("reservations", "reservations are filled and committed within their capacity") { run in
            let plugin = try run.plugin()
            let instance = try run.create(plugin)
            var options = ExchangeOptions()
            options.frames.room = 2
            for body in run.requests { _ = try Exchange.run([body], on: instance, options) }
            instance.destroy()
            return Verdict.judge(failures: plugin.findings.of(.room))
        },
        ConformanceCase(
            "too-large", "an element that a sink refuses as too large is not offered for ever"
        ) { run in
            let plugin = try run.plugin()
            let instance = try run.create(plugin)
            for refusesFrames in [true, false] {
                var options = ExchangeOptions()
                options.frames.isEverythingTooLarge = refusesFrames
                options.sources.isEverythingTooLarge = !refusesFrames
                for body in run.requests { _ = try Exchange.run([body], on: instance, options) }
            }
            instance.destroy()
            return Verdict.judge(failures: plugin.findings.of(.livelock))
        },
    ]
}
