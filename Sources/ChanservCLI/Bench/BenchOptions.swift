import ArgumentParser
import ChanservHost

/// What all benchmarks are told.
struct BenchOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Nodes to join instead of starting a host; may be repeated. One of them, or one behind them, must route "
                + "--vaddr to the Load plugin.",
            valueName: "host:port"),
        transform: { try HostAddress(joinable: $0) })
    var join: [HostAddress] = []

    @Option(help: ArgumentHelp("With --join: the address that leads to the Load plugin.", valueName: "name"))
    var vaddr = "load"

    @Option(
        help: ArgumentHelp(
            "With --join: an address that leads to it over a route with compression.", valueName: "name"))
    var compressedVaddr: String?

    @Option(help: "With --join: the environment the addresses are in.")
    var environment = ""

    @Option(
        help: ArgumentHelp(
            "The Load plugin of the host that is started. (default: libLoad.so beside the command, or in Plugins)",
            valueName: "file"))
    var plugin: String?

    @Option(help: "Where the plugin of the host that is started runs: in the host, or in a process of its own.")
    var isolation = IsolationOptions.Isolation.host

    @Flag(help: "Have the sources announced by name and fetch them, as Go clients do, instead of having them pushed.")
    var named = false

    @Flag(
        help: """
            Run the plugin of the host that is started on threads of its own ('inline: false'), not on the threads of \
            the network.
            """)
    var threaded = false

    @Flag(
        help: """
            'connect' and 'mixed': run the callers of small requests on Swift's own threads, where tasks run by default, not on the thread of the \
            link ('Node.executor').
            """)
    var pool = false

    @Flag(
        help: """
            Show the warnings of the host that is started, for example that the plugin was too slow for the threads of the \
            network. Its errors are always shown.
            """)
    var verbose = false

    @Flag(help: "Compare the content of every frame with what it should be; costs the client time.")
    var verify = false

    @Option(help: "How often to measure; more than once, each figure has its median, minimum and maximum.")
    var runs = 1

    @Option(
        help: ArgumentHelp("How long each run may take, such as 90s or 10m. (default: 5m)", valueName: "duration"),
        transform: { try ValueGrammar.duration($0) })
    var timeout = Duration.seconds(300)

    @Flag(help: "Write one JSON object instead of a table.")
    var json = false

    func validate() throws {
        guard (1...1_000).contains(runs) else { throw ValidationError("--runs is a number from 1 to 1000") }
        guard timeout > .zero else { throw ValidationError("--timeout is longer than nothing") }
        if !join.isEmpty && plugin != nil {
            throw ValidationError("--plugin is for the host that is started; with --join there is none")
        }
        if !join.isEmpty && isolation != .host {
            throw ValidationError("--isolation is for the host that is started; with --join there is none")
        }
        if !join.isEmpty && threaded {
            throw ValidationError("--threaded is for the host that is started; with --join there is none")
        }
        if !join.isEmpty && verbose {
            throw ValidationError("--verbose is for the host that is started; with --join there is none")
        }
        if join.isEmpty && (compressedVaddr != nil || vaddr != "load" || !environment.isEmpty) {
            throw ValidationError("--vaddr, --compressed-vaddr and --environment go with --join")
        }
        guard !vaddr.isEmpty, compressedVaddr != "" else { throw ValidationError("the virtual address is empty") }
    }

    /// For what needs a route that compresses.
    func validateCompression() throws {
        if !join.isEmpty && compressedVaddr == nil {
            throw ValidationError(
                "whether frames are compressed is the host's choice: with --join, name a route that compresses with "
                    + "--compressed-vaddr")
        }
    }

    /// What every workload was measured with, for programs.
    var parameters: [String: BenchParameter] {
        ["named": .flag(named), "threaded": .flag(threaded), "pool": .flag(pool)]
    }

    /// What is not as usual, for people: to be put behind the summary of a workload.
    var summary: String {
        (named ? ", sources fetched by name" : "") + (threaded ? ", plugin on threads of its own" : "")
            + (pool ? ", callers on Swift's pool" : "")
    }

    func run(_ workload: any Workload) async throws {
        let code = await BenchSession(workload, self).run()
        if code != 0 { throw ExitCode(code) }
    }
}

extension IsolationOptions.Isolation: ExpressibleByArgument {}
