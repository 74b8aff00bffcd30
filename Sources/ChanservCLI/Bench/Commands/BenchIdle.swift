import ArgumentParser

/// `chanserv bench idle`
struct BenchIdle: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "idle",
        abstract: "Open streams that say nothing: the bytes that each costs at either end.",
        discussion: """
            Opens as many streams with one request, reads one frame of each, and holds them all. The figures are the \
            growth of the resident memory divided by the number of streams, all that belongs to them included: at the \
            client the sequence the program holds, at the host the plugin's source and its alarm.

            EXAMPLES
              chanserv bench idle
              chanserv bench idle --streams 1000000
            """)

    @Option(help: "How many streams.")
    var streams = 10_000

    @OptionGroup var options: BenchOptions

    func validate() throws {
        guard (1...LoadRequest.sourcesMax).contains(streams) else {
            throw ValidationError("--streams is a number from 1 to \(LoadRequest.sourcesMax)")
        }
    }

    func run() async throws {
        try await options.run(IdleWorkload(streams: streams))
    }
}
