import ArgumentParser
import HostConfiguration

/// `chanserv bench mixed`: measures small requests beside large streams.
struct BenchMixed: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mixed",
        abstract: "Measures the latency of small requests beside large streams.",
        discussion: """
            Runs 'connect' twice: first alone, then while two endless streams arrive over the same link. One stream \
            has random frames, the other has text that the host compresses. The ratios compare the latencies beside \
            the streams with those without.

            EXAMPLES
              chanserv bench mixed
              chanserv bench mixed --callers 1 --size 64KiB
            """)

    @Option(help: ArgumentHelp("Number of concurrent callers.", valueName: "number"))
    var callers = 4

    @Option(help: ArgumentHelp("Length of each of the two parts in seconds.", valueName: "number"))
    var seconds = 5.0

    @Option(
        help: ArgumentHelp("Size of the frames of the streams. (default: 1MiB)", valueName: "size"),
        transform: { try ValueGrammar.size($0) })
    var size: UInt64 = 1 << 20

    @OptionGroup var options: BenchOptions

    func validate() throws {
        try BenchConnect.validate(callers: callers, seconds: seconds)
        guard (1...UInt64(LoadRequest.sizeMax)).contains(size) else {
            throw ValidationError("--size must be from 1 to 100MiB")
        }
        try options.validateCompression()
    }

    func run() async throws {
        try await options.run(MixedWorkload(callers: callers, seconds: seconds, size: Int(size)))
    }
}
