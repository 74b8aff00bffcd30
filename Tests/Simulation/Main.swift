import Glibc

/// Runs simulated meshes, each drawn from a seed; see docs/simulation.md.
@main
struct Main {
    static func main() {
        repeatWithStableHashing()
        let options: Options
        do throws(UsageError) {
            options = try Options(CommandLine.arguments.dropFirst())
        } catch {
            emit("error: \(error.description)\n       \(Options.usage)", to: STDERR_FILENO)
            exit(64)
        }
        switch options.mode {
        case .pool: exit(WorkerPool(options).run() ? 0 : 1)
        case .worker: runSeeds(options)
        case .trace: trace(options)
        case .large:
            CrashReporter.begin()
            LargeMesh.run()
        case .roundTrips:
            CrashReporter.begin()
            roundTrips()
        }
    }

    /// Starts the program again with `SWIFT_DETERMINISTIC_HASHING` set. Without it, the order of dictionaries differs
    /// in each process, and runs cannot be repeated.
    private static func repeatWithStableHashing() {
        guard getenv("SWIFT_DETERMINISTIC_HASHING") == nil else { return }
        setenv("SWIFT_DETERMINISTIC_HASHING", "1", 1)
        execv("/proc/self/exe", CommandLine.unsafeArgv)
        emit("error: cannot start again with SWIFT_DETERMINISTIC_HASHING=1: error \(errno)", to: STDERR_FILENO)
        exit(70)
    }

    private static func runSeeds(_ options: Options) {
        CrashReporter.begin()
        var figures = Figures()
        for index in 0..<options.seeds {
            let seed = options.first + index
            CrashReporter.seed(seed)
            let run = Run(options.plan(seed))
            if let violation = run.violation {
                guard options.isBrief else { return report(seed, options) }
                say("seed \(seed): \(violation)")
            } else if index < 10, Run(options.plan(seed)).digest != run.digest {
                // A run that cannot be repeated cannot be examined.
                say("seed \(seed): two runs differ")
                exit(1)
            }
            figures.add(Figures(run))
            say("progress")
        }
        say(figures.line)
    }

    private static func trace(_ options: Options) {
        CrashReporter.begin()
        for seed in options.first..<options.first + options.seeds {
            CrashReporter.seed(seed)
            let run = Run(options.plan(seed), isTraced: true)
            for line in run.trace { say(line) }
            if run.violation != nil { report(seed, options) }
        }
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

    /// Prints the shortest plan that still breaks the rule and the end of its trace. Exits with 1.
    private static func report(_ seed: UInt64, _ options: Options) {
        say("seed \(seed) FAILS: \(Run(options.plan(seed)).violation ?? "not when repeated")")
        say("Looking for a shorter plan …")
        let plan = Shrinking.shrink(options.plan(seed))
        let run = Run(plan, isTraced: true)
        say("\(plan.hosts.count) hosts, \(plan.events.count) events:")
        for (host, hostPlan) in plan.hosts.enumerated() { say("  n\(host): \(hostPlan)") }
        for event in plan.events { say("  \(event)") }
        say("The last 100 lines of its trace:")
        for line in run.trace.suffix(100) { say("  \(line.prefix(220))") }
        say("seed \(seed): \(run.violation ?? "the shortened plan passes")")
        say("All of it: scripts/simulate --from \(seed) --seeds 1\(options.isGuarded ? " --guarded" : "") --trace")
        exit(1)
    }
}

extension Options {
    fileprivate func plan(_ seed: UInt64) -> Plan { Plan(seed: seed, isGuarded: isGuarded) }
}
