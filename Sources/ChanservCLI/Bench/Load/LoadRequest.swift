/// A request to the Load plugin (Plugins/Load).
struct LoadRequest: Sendable, Equatable {
    /// Number of sources.
    var sources: Int
    /// Number of frames per source.
    var frames: Int
    /// Size of a frame in bytes.
    var size: Int
    var kind: LoadKind
    /// Frames per second and source as a decimal number; the first frame comes at once. `nil` for no limit.
    var rate: String?
    /// Whether frames of 8 KiB or more are lent to the host instead of copied into its buffer.
    var lends = false

    /// Maximum values that the plugin accepts.
    static let sourcesMax = 1_000_000
    static let framesMax = 4_294_967_295
    static let sizeMax = 104_857_600

    /// The smallest request: one source with one empty frame.
    static let smallest = LoadRequest(sources: 1, frames: 1, size: 0, kind: .zero)

    /// The body of the request.
    var body: String {
        "\(sources) \(frames) \(size) \(kind.rawValue)" + (rate.map { " \($0)" } ?? "") + (lends ? " lend" : "")
    }
}

/// The kind of content of frames.
package enum LoadKind: String, Sendable, CaseIterable {
    case zero
    /// Log lines. LZ4 compresses large frames to about a quarter.
    case text
    /// Random bytes, which cannot be compressed.
    case random
    /// Like `random`, after the prefix that marks a compressed frame.
    case magic
}
