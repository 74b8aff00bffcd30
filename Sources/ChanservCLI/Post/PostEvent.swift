import NIOCore

/// What happens to a request and its sources, as it is shown.
enum PostEvent {
    /// A source was announced.
    case header(source: Int, ByteBuffer)
    case frame(source: Int, ByteBuffer)
    /// A source is complete, or failed with a message.
    case end(source: Int, failure: String?, saved: SavedSource?)
    /// The request as a whole failed: there may have been more sources.
    case requestFailed(String)
}

/// What `--save` made of a source.
struct SavedSource: Equatable {
    /// The file, as a path below the folder given.
    var path: String
    var bytes: Int
}

/// How events are written to standard output.
enum PostFormat: String, CaseIterable {
    /// For people: every line prefixed with its source.
    case text
    /// For programs: one JSON object a line.
    case json
    /// The frames' bytes and nothing else, in the order in which they come.
    case raw

    /// Appends what standard output gets for `event`.
    func render(_ event: PostEvent, into out: inout ByteBuffer) {
        switch self {
        case .text: PostText.render(event, into: &out)
        case .json: PostJSON.render(event, into: &out)
        case .raw: if case .frame(_, let bytes) = event { out.writeImmutableBuffer(bytes) }
        }
    }
}
