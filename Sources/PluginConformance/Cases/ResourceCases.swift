internal import Glibc
internal import PluginRuntime

extension ConformanceCase {
    /// Resources that must not grow.
    static let resources = [
        ConformanceCase("descriptors", "requests and instances leave no descriptor open after their end") { run in
            try growth(.descriptors, run)
        },
        ConformanceCase("threads", "no thread is left running after destroy") { run in
            try growth(.threads, run)
        },
        ConformanceCase("memory-of-requests", "memory does not grow with finished requests") { run in
            let instance = try run.create(run.plugin())
            // Several at a time, because some plugins are slow.
            let bodies = (0..<16).map { run.requests[$0 % run.requests.count] }
            let verdict = try memoryGrowth(run, "16 requests", smallest: 16 * 16) { () throws(CaseEnd) in
                try run.runAndAbandon(bodies, on: instance, within: .milliseconds(400))
            }
            instance.destroy()
            return verdict
        },
        ConformanceCase("memory-of-instances", "memory does not grow with instances that are destroyed") { run in
            let plugin = try run.plugin()
            // The test keeps its tables for ever, as the host does: about one kilobyte for each instance.
            return try memoryGrowth(run, "an instance", smallest: 3_072) { () throws(CaseEnd) in
                try run.create(plugin).destroy()
            }
        },
        ConformanceCase("memory-of-refusals", "memory does not grow with instances that create refuses") {
            run in
            let plugin = try run.plugin()
            try run.create(plugin).destroy()
            let refusals = run.createWithErrors(plugin)
            if refusals == 0 { throw CaseEnd(.skip, "create refuses nothing") }
            // The same for each refusal. A leak in one of several refusals still occurs every time.
            return try memoryGrowth(run, "\(refusals) refusals", smallest: 1_536 * refusals + 1_536) {
                () throws(CaseEnd) in
                _ = run.createWithErrors(plugin)
            }
        },
    ]

    /// Checks whether each created and destroyed instance leaves something behind.
    private static func growth(_ resource: ProcessResource, _ run: CaseRun) throws(CaseEnd) -> Verdict {
        let plugin = try run.plugin()
        let start = resource.now
        try run.exercise(plugin)
        let before = resource.settled(atMost: start.count)
        let rounds = 6
        for _ in 0..<rounds {
            let instance = try run.create(plugin)
            try run.runAndAbandon(run.requests, on: instance, within: .milliseconds(200))
            instance.destroy()
        }
        let after = resource.settled(atMost: start.count)
        if after.count >= before.count + rounds {
            return Verdict(
                .fail, ["\(after.count - before.count) more \(resource) after \(rounds) instances were destroyed"])
        }
        let kept = after.subtracting(start)
        guard !kept.isEmpty else { return Verdict(.pass) }
        let what = kept.prefix(3).map(resource.describe).joined(separator: ", ")
        return Verdict(
            .warn,
            [
                "\(kept.count) \(resource) remain after all instances (\(what)); "
                    + "they do not grow, and may be a runtime's"
            ])
    }

    /// Checks whether memory grows with each repetition of `body`. Memory that grows only once is a cache.
    ///
    /// - Parameter smallest: growth in bytes per repetition that counts as a leak.
    private static func memoryGrowth(
        _ run: CaseRun, _ what: String, smallest: Int, _ body: () throws(CaseEnd) -> Void
    ) throws(CaseEnd) -> Verdict {
        // Enough repetitions to fill every cache, but few for slow plugins.
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
        // For plugins with their own allocator. Threads that use their stacks for the first time add noise, in most
        // batches on a busy machine. A leak appears in all batches, so the smallest step counts.
        let residentStep = (steps(resident).min() ?? 0) / count
        if residentStep >= smallest + 65_536 {
            return Verdict(
                .fail, ["after \(what) the process is about \(residentStep) bytes larger than before, every time"])
        }
        return Verdict(.pass)
    }

    /// Returns the second smallest step. A leak grows in every batch, a cache in some. One step may be too small by
    /// chance.
    private static func growth(_ values: [Int]) -> Int { steps(values).sorted()[1] }

    private static func steps(_ values: [Int]) -> [Int] { zip(values.dropFirst(), values).map { $0 - $1 } }
}
