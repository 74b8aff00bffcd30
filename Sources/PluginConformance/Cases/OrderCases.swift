extension ConformanceCase {
    /// Every order of functions that the header allows.
    static let order = [
        ConformanceCase("open-and-close", "calls and sources may be closed without a single poll") { run in
            let instance = try run.create(run.plugin())
            for round in 0..<50 where run.hasTime {
                var options = ExchangeOptions()
                options.plan = { $0.isCall == (round % 2 == 0) && $0.polls == 0 ? .close : .goOn }
                _ = try Exchange.run(run.requests, on: instance, options)
            }
            instance.destroy()
            return Verdict(.pass)
        },
        ConformanceCase("close-anywhere", "calls and sources may be closed after any poll, before their end") { run in
            let instance = try run.create(run.plugin())
            for polls in 1..<12 where run.hasTime {
                for closesCalls in [true, false] {
                    var options = ExchangeOptions()
                    options.frames.room = 1
                    options.sources.room = 1
                    options.plan = { $0.polls == polls && $0.isCall == closesCalls ? .close : .goOn }
                    _ = try Exchange.run(run.requests, on: instance, options)
                }
            }
            instance.destroy()
            return Verdict(.pass)
        },
        ConformanceCase("close-late", "sources may be closed long after their ends, in any order, before their call") {
            run in
            let instance = try run.create(run.plugin())
            var options = ExchangeOptions()
            options.closesLate = true
            for _ in 0..<5 where run.hasTime { _ = try Exchange.run(run.requests, on: instance, options) }
            instance.destroy()
            return Verdict(.pass)
        },
        ConformanceCase("close-waiting", "an object that returned PENDING may be closed, and no later work uses it") {
            run in
            let plugin = try run.plugin()
            let instance = try run.create(plugin)
            var options = ExchangeOptions()
            options.time = .milliseconds(30)
            var pendings = 0
            for _ in 0..<5 { pendings += try Exchange.run(run.requests, on: instance, options).pendings }
            guard pendings > 0 else {
                instance.destroy()
                throw CaseEnd(.skip, "no poll returned PENDING")
            }
            instance.destroy()
            // Timers of the destroyed instance that still run now expire and use freed memory.
            let other = try run.create(plugin)
            let quiet = Monitor(())
            let _: Void? = quiet.wait(until: monotonicTime(in: .milliseconds(300))) { _ in nil }
            other.destroy()
            return Verdict(.pass)
        },
    ]
}
