import ArgumentParser
import HostConfiguration

/// Options of all benchmarks.
struct BenchOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Join this node (host:port or unix:path) instead of starting a host. May be repeated. One of these nodes, or a host behind them, must "
                + "route --vaddr to the Load plugin.",
            valueName: "address"),
        transform: { try HostAddress(joinable: $0) })
    var join: [HostAddress] = []

    @OptionGroup var tls: JoinTLSOptions

    @Option(help: ArgumentHelp("With --join: the address of the Load plugin.", valueName: "name"), transform: utf8Text)
    var vaddr = "load"

    @Option(
        help: ArgumentHelp(
            "With --join: an address of the Load plugin whose route compresses frames.", valueName: "name"),
        transform: utf8Text)
    var compressedVaddr: String?

    @Option(
        help: ArgumentHelp("With --join: the environment of the addresses.", valueName: "name"), transform: utf8Text)
    var environment = ""

    @Option(
        help: ArgumentHelp(
            "Without --join: the Load plugin. (default: libLoad.so beside the chanserv executable, or in Plugins)",
            valueName: "file"))
    var plugin: String?

    @Option(
        help: ArgumentHelp("Without --join: run the plugin in the host or in a worker process.", valueName: "where"))
    var isolation = IsolationOptions.Isolation.host

    @Flag(help: "Fetch sources by name, as Go clients do, instead of accepting pushed sources.")
    var named = false

    @Flag(help: "Without --join: call the plugin on plugin threads ('inline: false'), not on event loops.")
    var threaded = false

    @Flag(
        help: """
            For 'connect' and 'mixed': run the callers on Swift's cooperative thread pool, the default for tasks, not \
            on the link's event loop ('Node.executor').
            """)
    var pool = false

    @Flag(
        help: """
            Without --join: show the host's warnings, for example about plugin calls that are too slow for an event \
            loop. Errors are always shown.
            """)
    var verbose = false

    @Flag(help: "Compare the content of every frame. This costs the client processor time.")
    var verify = false

    @Option(
        help: ArgumentHelp(
            "Number of runs. With more than one, the result has the median, minimum and maximum of each figure.",
            valueName: "number"))
    var runs = 1

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Time limit for each run, such as 90s or 10m. (default: 5m)", valueName: "duration"),
        transform: timeLimit)
    var timeout = Duration.seconds(300)

    @Flag(help: "Print one JSON object instead of a table.")
    var json = false

    func validate() throws {
        guard (1...1_000).contains(runs) else { throw ValidationError("--runs must be from 1 to 1000") }
        if !join.isEmpty && plugin != nil {
            throw ValidationError("--plugin applies to a host that bench starts: omit it, or omit --join")
        }
        if !join.isEmpty && isolation != .host {
            throw ValidationError("--isolation applies to a host that bench starts: omit it, or omit --join")
        }
        if !join.isEmpty && threaded {
            throw ValidationError("--threaded applies to a host that bench starts: omit it, or omit --join")
        }
        if !join.isEmpty && verbose {
            throw ValidationError("--verbose applies to a host that bench starts: omit it, or omit --join")
        }
        if join.isEmpty && tls.isGiven { throw ValidationError("the options of TLS need --join") }
        if join.isEmpty && (compressedVaddr != nil || vaddr != "load" || !environment.isEmpty) {
            throw ValidationError("--vaddr, --compressed-vaddr and --environment need --join")
        }
        guard !vaddr.isEmpty, compressedVaddr != "" else { throw ValidationError("the virtual address is empty") }
    }

    /// Validates the options of a benchmark that needs a route with compression.
    func validateCompression() throws {
        if !join.isEmpty && compressedVaddr == nil {
            throw ValidationError(
                "the host's route decides about compression: with --join, give the address of a compressing route with "
                    + "--compressed-vaddr")
        }
    }

    /// The options as report parameters.
    var parameters: [String: BenchParameter] {
        ["named": .flag(named), "threaded": .flag(threaded), "pool": .flag(pool)]
    }

    /// The options that differ from their defaults, as a suffix for a workload's summary.
    var summary: String {
        (named ? ", sources fetched by name" : "") + (threaded ? ", plugin called on plugin threads" : "")
            + (pool ? ", callers on Swift's pool" : "")
    }

    func run(_ workload: any Workload) async throws {
        let code = await BenchSession(workload, self).run()
        if code != 0 { throw ExitCode(code) }
    }
}

extension IsolationOptions.Isolation: ExpressibleByArgument {}
