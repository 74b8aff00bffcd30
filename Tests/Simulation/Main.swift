import Glibc
import NIOCore

/// Runs seeds of the simulation. `scripts/simulate` starts it in several processes and reads its output.
@main
struct Main {
    static func main() {
        guard getenv("SWIFT_DETERMINISTIC_HASHING") != nil else {
            return fail(
                "SWIFT_DETERMINISTIC_HASHING=1 is not set, so runs cannot be repeated: use scripts/simulate")
        }
        var seeds: UInt64 = 100
        var from: UInt64 = 1
        var step: UInt64 = 1
        var isTraced = false
        var isBrief = false
        var scenario: String?
        var arguments = CommandLine.arguments.dropFirst()
        while let argument = arguments.popFirst() {
            switch argument {
            case "--trace": isTraced = true
            case "--brief": isBrief = true
            case "--large", "--round-trips": scenario = argument
            case "--seeds", "--from", "--step":
                guard let value = arguments.popFirst().flatMap(UInt64.init), value > 0 else {
                    return fail("\(argument) needs a number of at least 1")
                }
                if argument == "--seeds" {
                    seeds = value
                } else if argument == "--from" {
                    from = value
                } else {
                    step = value
                }
            default: return fail("unknown argument \(argument)")
            }
        }
        Watch.begin()
        if scenario == "--large" { return LargeMesh.run() }
        if scenario == "--round-trips" { return roundTrips() }
        runSeeds(from: from, count: seeds, step: step, isTraced: isTraced, isBrief: isBrief)
    }

    private static func runSeeds(from: UInt64, count: UInt64, step: UInt64, isTraced: Bool, isBrief: Bool) {
        var figures = Figures()
        for index in 0..<count {
            let seed = from + index * step
            Watch.seed(seed)
            let run = Run(Plan(seed: seed), isTraced: isTraced)
            if isTraced { for line in run.trace { say(line) } }
            if let violation = run.violation {
                guard isBrief else { return report(seed) }
                say("seed \(seed): \(violation)")
                continue
            }
            // The first ten seeds run twice, to check that a run can be repeated.
            if index < 10, Run(Plan(seed: seed)).digest != run.digest {
                say("seed \(seed): two runs differ")
                exit(1)
            }
            figures.add(run)
            say("progress \(index + 1)")
        }
        say(
            "done \(figures.seeds) \(figures.posts) \(figures.failed) \(figures.virtualTime / World.second) "
                + "\(figures.longest / World.second) \(figures.requests) \(figures.failedRequests)"
        )
    }

    private static func roundTrips() {
        var isWrong = false
        for result in RoundTrips.all() {
            let isRight = result.expected.map { $0 == result.roundTrips } ?? true
            isWrong = isWrong || !isRight
            let remark = isRight ? "" : ", WRONG: expected \(result.expected ?? 0)"
            say("\(result.path): \(result.roundTrips) round trips from the dial to the answer\(remark)")
        }
        if isWrong { exit(1) }
    }

    private static func report(_ seed: UInt64) {
        say("seed \(seed) FAILS: \(Run(Plan(seed: seed)).violation ?? "it did not fail when repeated")")
        say("Looking for the shortest list of events that fails …")
        let plan = Shrinking.shrink(Plan(seed: seed))
        let run = Run(plan, isTraced: true)
        say("\(plan.hosts.count) hosts, \(plan.events.count) events:")
        for (host, hostPlan) in plan.hosts.enumerated() { say("  n\(host): \(hostPlan)") }
        for event in plan.events { say("  \(event)") }
        say("The last 100 lines of the trace:")
        for line in run.trace.suffix(100) { say("  \(line.prefix(220))") }
        say("seed \(seed): \(run.violation ?? "it did not fail when repeated")")
        say("For the full trace run: scripts/simulate --from \(seed) --seeds 1 --trace")
        exit(1)
    }

    private static func fail(_ message: String) {
        emit("error: \(message)", to: STDERR_FILENO)
        exit(64)
    }
}

/// Totals of all runs of a process.
struct Figures {
    var seeds = 0
    var posts = 0
    var failed = 0
    var requests = 0
    var failedRequests = 0
    var virtualTime: UInt64 = 0
    var longest: UInt64 = 0

    mutating func add(_ run: Run) {
        seeds += 1
        posts += run.posts
        failed += run.failedPosts
        requests += run.requests
        failedRequests += run.failedRequests
        virtualTime += run.ended
        longest = max(longest, run.convergence)
    }
}
