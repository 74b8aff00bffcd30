import ArgumentParser
import HostConfiguration

/// Options of the benchmarks that transfer frames, `flood` and `heavy`.
struct TransferOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Number of sources.", valueName: "number"))
    var sources: Int?

    @Option(help: ArgumentHelp("Number of frames per source.", valueName: "number"))
    var frames: Int?

    @Option(
        help: ArgumentHelp("Size of a frame, such as 64 or 1MiB.", valueName: "size"),
        transform: { try ValueGrammar.size($0) })
    var size: UInt64?

    @Option(
        help: ArgumentHelp(
            """
            Content of the frames: zero; text, which compresses to a quarter if frames are large; random; magic, which \
            is random after the prefix of a compressed frame.
            """, valueName: "kind"))
    var kind = LoadKind.random

    @Flag(help: "Use the route on which the host compresses frames.")
    var compression = false

    func validate() throws {
        guard (1...LoadRequest.sourcesMax).contains(sources ?? 1) else {
            throw ValidationError("--sources must be from 1 to \(LoadRequest.sourcesMax)")
        }
        guard (0...LoadRequest.framesMax).contains(frames ?? 1) else {
            throw ValidationError("--frames must be from 0 to \(LoadRequest.framesMax)")
        }
        guard (size ?? 0) <= LoadRequest.sizeMax else { throw ValidationError("--size must be at most 100MiB") }
    }

    /// Returns the workload that these options describe.
    ///
    /// - Parameter usual: the values of options that are not given.
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
