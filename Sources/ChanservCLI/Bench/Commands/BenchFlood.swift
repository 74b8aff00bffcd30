import ArgumentParser

/// `chanserv bench flood`
struct BenchFlood: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flood",
        abstract: "Very many small frames of many sources at the same time: frames a second.",
        discussion: """
            One request for 1,000 sources of 5,000 frames of 64 bytes, unless told otherwise; each source is read by a \
            task of its own, frame by frame.

            EXAMPLES
              chanserv bench flood
              chanserv bench flood --sources 10000 --frames 100 --size 0 --runs 3
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
