import ArgumentParser

/// `chanserv bench idle`: measures the memory of idle streams.
struct BenchIdle: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "idle",
        abstract: "Measures the memory of idle streams at the client and the host.",
        discussion: """
            Opens the streams with one request, reads one frame of each, and keeps all of them open. The result is the \
            growth of the resident memory divided by the number of streams. It includes everything that belongs to a \
            stream: at the client the frame iterator that the program holds, at the host the plugin's source and its \
            timer.

            EXAMPLES
              chanserv bench idle
              chanserv bench idle --streams 1000000
            """)

    @Option(help: ArgumentHelp("Number of streams.", valueName: "number"))
    var streams = 10_000

    @OptionGroup var options: BenchOptions

    func validate() throws {
        guard (1...LoadRequest.sourcesMax).contains(streams) else {
            throw ValidationError("--streams must be from 1 to \(LoadRequest.sourcesMax)")
        }
    }

    func run() async throws {
        try await options.run(IdleWorkload(streams: streams))
    }
}
