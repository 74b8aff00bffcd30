import ArgumentParser
import ChanservHost

/// What is transferred, where it is not as much as usual.
struct TransferOptions: ParsableArguments {
    @Option(help: "How many sources.")
    var sources: Int?

    @Option(help: "How many frames each has.")
    var frames: Int?

    @Option(
        help: ArgumentHelp("How large a frame is, such as 64 or 1MiB.", valueName: "size"),
        transform: { try ValueGrammar.size($0) })
    var size: UInt64?

    @Option(
        help: """
            What is in the frames: zero, text (compresses to a quarter where frames are large), random, or magic \
            (random, but with the mark of compressed frames). (default: random)
            """)
    var kind = LoadKind.random

    @Flag(help: "Let the host compress the frames.")
    var compression = false

    func validate() throws {
        guard (1...LoadRequest.sourcesMax).contains(sources ?? 1) else {
            throw ValidationError("--sources is a number from 1 to \(LoadRequest.sourcesMax)")
        }
        guard (0...LoadRequest.framesMax).contains(frames ?? 1) else {
            throw ValidationError("--frames is a number from 0 to \(LoadRequest.framesMax)")
        }
        guard (size ?? 0) <= LoadRequest.sizeMax else { throw ValidationError("--size is at most 100MiB") }
    }

    /// - Parameter usual: what is not given is as in this.
    func workload(_ name: String, usual: LoadRequest) -> TransferWorkload {
        var request = usual
        if let sources { request.sources = sources }
        if let frames { request.frames = frames }
        if let size { request.size = Int(size) }
        request.kind = kind
        return TransferWorkload(name: name, request: request, compression: compression)
    }
}

extension LoadKind: ExpressibleByArgument {}
