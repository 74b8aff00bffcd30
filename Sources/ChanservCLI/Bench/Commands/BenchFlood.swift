import ArgumentParser

/// `chanserv bench flood`: measures many small frames.
struct BenchFlood: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flood",
        abstract: "Measures the frame rate of many sources with small frames.",
        discussion: """
            Posts one request for, by default, 1,000 sources with 5,000 frames of 64 bytes each. One task per source \
            reads frame by frame.

            EXAMPLES
              chanserv bench flood
              chanserv bench flood --sources 10000 --frames 100
            """)

    @OptionGroup var transfer: TransferOptions
    @OptionGroup var options: BenchOptions

    func validate() throws {
        if transfer.compression { try options.validateCompression() }
    }

    func run() async throws {
        let usual = LoadRequest(sources: 1_000, frames: 5_000, size: 64, kind: .random)
        try await options.run(transfer.workload("flood", usual: usual))
    }
}
