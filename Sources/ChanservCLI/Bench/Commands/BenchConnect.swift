import ArgumentParser

/// `chanserv bench connect`
struct BenchConnect: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "connect",
        abstract: "Small requests, one after the other, by several callers: requests a second and how long one takes.",
        discussion: """
            Each caller posts a request for one source with one empty frame, reads the answer to its end, and posts the \
            next. All callers share one link.

            EXAMPLES
              chanserv bench connect
              chanserv bench connect --callers 1 --seconds 10 --runs 3
            """)

    @Option(help: "How many callers post at the same time.")
    var callers = 4

    @Option(help: "How long they do, in seconds.")
    var seconds = 5.0

    @OptionGroup var options: BenchOptions

    func validate() throws {
        try Self.validate(callers: callers, seconds: seconds)
    }

    static func validate(callers: Int, seconds: Double) throws {
        guard (1...10_000).contains(callers) else { throw ValidationError("--callers is a number from 1 to 10000") }
        guard seconds > 0, seconds <= 86_400 else { throw ValidationError("--seconds is more than 0, at most 86400") }
    }

    func run() async throws {
        try await options.run(ConnectWorkload(callers: callers, seconds: seconds))
    }
}
