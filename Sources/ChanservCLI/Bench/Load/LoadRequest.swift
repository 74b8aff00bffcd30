/// What the Load plugin (Plugins/Load) is asked for: so many sources of so many frames of so many bytes.
struct LoadRequest: Sendable, Equatable {
    var sources: Int
    /// Of each source.
    var frames: Int
    /// Of each frame, bytes.
    var size: Int
    var kind: LoadKind
    /// Frames a second of each source as a decimal number, the first at once; `nil` for as fast as they are asked for.
    var rate: String?
    /// Whether frames of 8 KiB and more are lent to the host instead of copied into its buffer.
    var lends = false

    /// The largest numbers the plugin takes.
    static let sourcesMax = 1_000_000
    static let framesMax = 4_294_967_295
    static let sizeMax = 104_857_600

    /// The smallest request there is: one source with one empty frame.
    static let smallest = LoadRequest(sources: 1, frames: 1, size: 0, kind: .zero)

    /// As it is posted.
    var body: String {
        "\(sources) \(frames) \(size) \(kind.rawValue)" + (rate.map { " \($0)" } ?? "") + (lends ? " lend" : "")
    }
}

/// What frames consist of.
enum LoadKind: String, Sendable, CaseIterable {
    case zero
    /// Lines of a log: LZ4 makes a quarter of large frames.
    case text
    /// Nothing that could be compressed.
    case random
    /// As `random`, with the mark of a compressed frame at the beginning.
    case magic
}
