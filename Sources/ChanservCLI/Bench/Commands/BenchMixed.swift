import ArgumentParser
import ChanservHost

/// `chanserv bench mixed`
struct BenchMixed: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mixed",
        abstract: "Small requests beside a heavy stream and a compressed one: how much longer they take.",
        discussion: """
            Measures as 'connect' does, first alone, then while two endless streams come over the same link: one of \
            random frames, and one of text that the host compresses. The ratios say how much longer a request takes \
            beside them.

            EXAMPLES
              chanserv bench mixed
              chanserv bench mixed --callers 1 --seconds 10 --size 64KiB
            """)

    @Option(help: "How many callers post at the same time.")
    var callers = 4

    @Option(help: "How long they do, in seconds: first alone, and once more beside the streams.")
    var seconds = 5.0

    @Option(
        help: ArgumentHelp("How large the frames of the streams are. (default: 1MiB)", valueName: "size"),
        transform: { try ValueGrammar.size($0) })
    var size: UInt64 = 1 << 20

    @OptionGroup var options: BenchOptions

    func validate() throws {
        try BenchConnect.validate(callers: callers, seconds: seconds)
        guard (1...UInt64(LoadRequest.sizeMax)).contains(size) else {
            throw ValidationError("--size is from 1 to 100MiB")
        }
        try options.validateCompression()
    }

    func run() async throws {
        try await options.run(MixedWorkload(callers: callers, seconds: seconds, size: Int(size)))
    }
}
