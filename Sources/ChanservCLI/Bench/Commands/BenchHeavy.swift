import ArgumentParser

/// `chanserv bench heavy`: measures large frames.
struct BenchHeavy: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "heavy",
        abstract: "Measures the byte rate of a few sources with large frames.",
        discussion: """
            Posts one request for, by default, 10 sources with 500 frames of 1 MiB each. One task per source reads \
            frame by frame. 1 GB is 10^9 bytes of uncompressed payload.

            EXAMPLES
              chanserv bench heavy
              chanserv bench heavy --lend
              chanserv bench heavy --kind text --compression
              chanserv bench heavy --sources 1 --size 100MiB
            """)

    @OptionGroup var transfer: TransferOptions
    @OptionGroup var options: BenchOptions

    @Flag(help: "Make the plugin lend its frames to the host instead of copying them into the host's buffer.")
    var lend = false

    func validate() throws {
        if transfer.compression { try options.validateCompression() }
    }

    func run() async throws {
        let usual = LoadRequest(sources: 10, frames: 500, size: 1 << 20, kind: .random, lends: lend)
        try await options.run(transfer.workload("heavy", usual: usual))
    }
}
