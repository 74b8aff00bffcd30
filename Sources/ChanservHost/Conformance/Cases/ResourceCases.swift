internal import Glibc

extension ConformanceCase {
    /// What must not grow.
    static let resources = [
        ConformanceCase("descriptors", "no descriptor is left open by requests and instances that are gone") { run in
            try growth(.descriptors, run)
        },
        ConformanceCase("threads", "no thread is left running after destroy") { run in
            try growth(.threads, run)
        },
        ConformanceCase("memory-of-requests", "memory does not grow with requests that are over") { run in
            let instance = try run.create(run.plugin())
            // Many at a time, for plugins that take their time.
            let bodies = (0..<16).map { run.requests[$0 % run.requests.count] }
            let verdict = try slope(run, "16 requests", smallest: 16 * 16) { () throws(CaseEnd) in
                try run.comeAndGo(bodies, on: instance, within: .milliseconds(400))
            }
            instance.destroy()
            return verdict
        },
        ConformanceCase("memory-of-instances", "memory does not grow with instances that are destroyed") { run in
            let plugin = try run.plugin()
            // The test's own tables are kept for ever, as the host's are: about a kilobyte for each instance.
            return try slope(run, "an instance", smallest: 3_072) { () throws(CaseEnd) in
                try run.create(plugin).destroy()
            }
        },
        ConformanceCase("memory-of-refusals", "memory does not grow with instances that create refuses to make") {
            run in
            let plugin = try run.plugin()
            try run.create(plugin).destroy()
            let refusals = run.createInVain(plugin)
            if refusals == 0 { throw CaseEnd(.skip, "create refuses nothing") }
            // As above, for each; what is lost at one of several refusals is lost every time all the same.
            return try slope(run, "\(refusals) refusals", smallest: 1_536 * refusals + 1_536) { () throws(CaseEnd) in
                _ = run.createInVain(plugin)
            }
        },
    ]

    /// Looks whether something is left over by each instance that comes and goes.
    private static func growth(_ resource: ProcessResource, _ run: CaseRun) throws(CaseEnd) -> Verdict {
        let plugin = try run.plugin()
        let start = resource.now
        try run.exercise(plugin)
        let before = resource.settled(atMost: start.count)
        let rounds = 6
        for _ in 0..<rounds {
            let instance = try run.create(plugin)
            try run.comeAndGo(run.requests, on: instance, within: .milliseconds(200))
            instance.destroy()
        }
        let after = resource.settled(atMost: start.count)
        if after.count >= before.count + rounds {
            return Verdict(
                .fail, ["\(after.count - before.count) more \(resource) after \(rounds) instances came and went"])
        }
        let kept = after.subtracting(start)
        guard !kept.isEmpty else { return Verdict(.pass) }
        let what = kept.prefix(3).map(resource.describe).joined(separator: ", ")
        return Verdict(
            .warn,
            [
                "\(kept.count) \(resource) stay when no instance is left (\(what)); they do not grow, so perhaps a runtime's"
            ])
    }

    /// Looks whether memory grows each time that `body` is done often: what grows once is a cache.
    ///
    /// - Parameter smallest: how many bytes each time count as growth.
    private static func slope(
        _ run: CaseRun, _ what: String, smallest: Int, _ body: () throws(CaseEnd) -> Void
    ) throws(CaseEnd) -> Verdict {
        // Long enough to fill every cache; short for plugins that take their time.
        var count = 0
        let warmed = monotonicTime(in: .milliseconds(600))
        while count < 60, monotonicNanoseconds() < warmed || count < 2 {
            try body()
            count += 1
        }
        var heap = [ProcessMemory.settledHeap]
        var resident = [ProcessMemory.resident]
        for _ in 0..<5 {
            for _ in 0..<count { try body() }
            heap.append(ProcessMemory.settledHeap)
            resident.append(ProcessMemory.resident)
        }
        let heapStep = growth(heap) / count
        if heapStep >= smallest {
            return Verdict(.fail, ["after \(what) about \(heapStep) bytes more are allocated than before, every time"])
        }
        // For allocators of their own. Threads that touch their stacks for the first time are noise, and come in most batches
        // where a machine is busy: a leak comes in all of them.
        let residentStep = (steps(resident).min() ?? 0) / count
        if residentStep >= smallest + 65_536 {
            return Verdict(
                .fail, ["after \(what) the process is about \(residentStep) bytes larger than before, every time"])
        }
        return Verdict(.pass)
    }

    /// By how much values grow from one to the next, in all steps but one: a leak grows in every batch, a cache in some, and
    /// one piece more or less at one of the times is neither.
    private static func growth(_ values: [Int]) -> Int { steps(values).sorted()[1] }

    private static func steps(_ values: [Int]) -> [Int] { zip(values.dropFirst(), values).map { $0 - $1 } }
}
