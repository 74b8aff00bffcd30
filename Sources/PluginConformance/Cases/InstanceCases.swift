extension ConformanceCase {
    /// Creating and destroying instances.
    static let instances = [
        ConformanceCase(createName, "create makes an instance from the configuration, and destroy frees it") { run in
            let plugin = try run.plugin()
            let (instance, reply, _) = TestedInstance.create(plugin, run.configuration)
            guard let instance else {
                return Verdict(
                    .fail, ["create refused the configuration: \(reply.message); pass a valid one with --config"])
            }
            instance.destroy()
            return Verdict(.pass)
        },
        ConformanceCase(
            "many-instances", "instances are created and destroyed any number of times, beside others, in any order"
        ) { run in
            let plugin = try run.plugin()
            try run.create(plugin).destroy()
            for _ in 0..<50 where run.hasTime { try createAgain(run, plugin, "after others").destroy() }
            for reversed in [false, true] {
                var instances: [TestedInstance] = []
                for _ in 0..<8 { instances.append(try createAgain(run, plugin, "beside others")) }
                for instance in reversed ? instances.reversed() : instances { instance.destroy() }
            }
            return Verdict(.pass)
        },
        ConformanceCase("instances-at-once", "instances are created and destroyed by several threads at the same time")
        { run in
            let plugin = try run.plugin()
            try run.create(plugin).destroy()
            let failures = Monitor<[String]>([])
            CaseThread.together(4) { _ in
                for _ in 0..<10 where run.hasTime {
                    let (instance, reply, _) = TestedInstance.create(plugin, run.configuration)
                    instance?.destroy()
                    if instance == nil {
                        failures.with { $0 = ["create failed beside others: \(reply.message)"] }
                    }
                }
            }
            return Verdict.judge(failures: failures.with { $0 })
        },
        ConformanceCase("generations", "an instance serves on while others are created, used and destroyed (a reload)")
        { run in
            let plugin = try run.plugin()
            let old = try run.create(plugin)
            let references = try run.references(old)
            var failures: [String] = []
            for reference in references where failures.isEmpty {
                for round in 0..<3 where round == 0 || run.hasTime {
                    let new = try createAgain(run, plugin, "beside another")
                    for (name, instance) in [("the new", new), ("the old", old)] {
                        let answer = try Exchange.run([reference.body], on: instance).answers[0]
                        if let difference = answer.difference(from: reference.answer) {
                            failures.append("\(run.describe(reference.body)): \(name) instance: \(difference)")
                        }
                    }
                    new.destroy()
                }
                let answer = try Exchange.run([reference.body], on: old).answers[0]
                if let difference = answer.difference(from: reference.answer) {
                    failures.append("\(run.describe(reference.body)): after another was destroyed: \(difference)")
                }
            }
            old.destroy()
            return Verdict.judge(failures: failures)
        },
    ]

    /// Creates an instance of a configuration that create has accepted before.
    private static func createAgain(_ run: CaseRun, _ plugin: TestedPlugin, _ when: String) throws(CaseEnd)
        -> TestedInstance
    {
        let (instance, reply, _) = TestedInstance.create(plugin, run.configuration)
        guard let instance else { throw CaseEnd(.fail, "create failed \(when): \(reply.message)") }
        return instance
    }
}
