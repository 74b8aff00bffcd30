extension ConformanceCase {
    /// Hosts of other versions of the ABI, and the promises of version 1.1.
    static let versions = [
        ConformanceCase(
            "version-1.0", "in a host of version 1.0 the answers are the same: no field is read that its structs lack"
        ) { run in
            let instance = try run.create(run.plugin())
            let references = try run.references(instance)
            instance.destroy()
            let plugin = try run.plugin(isVersion10: true)
            let old = try run.create(plugin)
            var failures: [String] = []
            for reference in references {
                let answer = try Exchange.run([reference.body], on: old).answers[0]
                if let difference = answer.difference(from: reference.answer) {
                    failures.append("\(run.describe(reference.body)): in a host of version 1.0: \(difference)")
                }
            }
            old.destroy()
            return Verdict.judge(failures: plugin.findings.of([.sink, .hostTable]) + failures)
        },
        ConformanceCase(
            "inline", "with CHANSERV_PLUGIN_INLINE open, polls and closes return at once: an event loop waits for them"
        ) { run in
            let plugin = try run.plugin()
            if !plugin.descriptor.isInline { throw CaseEnd(.skip, "the plugin does not set CHANSERV_PLUGIN_INLINE") }
            let instance = try run.create(plugin)
            // Other load of the machine can delay single calls, so only a function that is slow in every round counts.
            var slowest: [PluginFunction: UInt64] = [:]
            for round in 0..<10 {
                _ = plugin.takeTimings()
                _ = try Exchange.run(run.requests, on: instance)
                let timings = plugin.takeTimings().filter { onLoop.contains($0.key) }.mapValues(\.longest)
                slowest = timings.filter { $0.value > 1_000_000 && (round == 0 || slowest[$0.key] != nil) }
                if slowest.isEmpty { break }
            }
            instance.destroy()
            let failures = slowest.sorted { $0.key.rawValue < $1.key.rawValue }.map { function, time in
                "\(function.name) took \(time / 1_000) µs, more than 1,000 µs in each of 10 rounds; return "
                    + "CHANSERV_PENDING and work on a thread of the plugin, or do not set CHANSERV_PLUGIN_INLINE"
            }
            return Verdict.judge(failures: failures)
        },
    ]

    /// The functions that the host calls on an event loop.
    private static let onLoop: Set<PluginFunction> = [.open, .pollSources, .pollFrames, .closeSource, .closeCall]
}
