import ArgumentParser

/// `chanserv bench connect`: measures small requests.
struct BenchConnect: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "connect",
        abstract: "Measures the rate and the latency of small requests.",
        discussion: """
            Each caller posts a request for one source with one empty frame, reads the whole response, and posts the \
            next request. All callers share one link.

            EXAMPLES
              chanserv bench connect
              chanserv bench connect --callers 1 --runs 3
            """)

    @Option(help: ArgumentHelp("Number of concurrent callers.", valueName: "number"))
    var callers = 4

    @Option(help: ArgumentHelp("Length of a run in seconds.", valueName: "number"))
    var seconds = 5.0

    @OptionGroup var options: BenchOptions

    func validate() throws {
        try Self.validate(callers: callers, seconds: seconds)
    }

    static func validate(callers: Int, seconds: Double) throws {
        guard (1...10_000).contains(callers) else { throw ValidationError("--callers must be from 1 to 10000") }
        guard seconds > 0, seconds <= 86_400 else {
            throw ValidationError("--seconds must be more than 0 and at most 86400")
        }
    }

    func run() async throws {
        try await options.run(ConnectWorkload(callers: callers, seconds: seconds))
    }
}
