import ArgumentParser

/// `chanserv bench heavy`
struct BenchHeavy: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "heavy",
        abstract: "Large frames of a few sources at the same time: bytes a second.",
        discussion: """
            One request for 10 sources of 500 frames of 1 MiB, unless told otherwise; each source is read by a task of \
            its own, frame by frame. A GB is 10^9 bytes of payload, decompressed where it was compressed.

            EXAMPLES
              chanserv bench heavy
              chanserv bench heavy --lend
              chanserv bench heavy --kind text --compression
              chanserv bench heavy --sources 1 --frames 100 --size 100MiB
            """)

    @OptionGroup var transfer: TransferOptions
    @OptionGroup var options: BenchOptions

    @Flag(help: "Let the plugin lend its frames to the host instead of copying them into the host's buffer.")
    var lend = false

    func validate() throws {
        if transfer.compression { try options.validateCompression() }
    }

    func run() async throws {
        let usual = LoadRequest(sources: 10, frames: 500, size: 1 << 20, kind: .random, lends: lend)
        try await options.run(transfer.workload("heavy", usual: usual))
    }
}
