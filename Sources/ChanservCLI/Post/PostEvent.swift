import NIOCore

/// An event of a request or of one of its sources.
package enum PostEvent {
    /// A source was announced.
    case header(source: Int, ByteBuffer)
    case frame(source: Int, ByteBuffer)
    /// A source ended. `failure` is its error message; `nil` if the source is complete.
    case end(source: Int, failure: String?, saved: SavedSource?)
    /// The whole request failed. There may have been more sources.
    case requestFailed(String)
}

/// A source that `--save` wrote to a file.
package struct SavedSource: Equatable {
    /// The path of the file, relative to the folder of `--save`.
    var path: String
    var bytes: Int

    package init(path: String, bytes: Int) {
        self.path = path
        self.bytes = bytes
    }
}

/// The output format of `chanserv post`.
package enum PostFormat: String, CaseIterable {
    /// Human-readable: every line has its source as a prefix.
    case text
    /// Machine-readable: one JSON object per line.
    case json
    /// Only the bytes of the frames, in the order of arrival.
    case raw

    /// Appends the output for `event` to `out`.
    package func render(_ event: PostEvent, into out: inout ByteBuffer) {
        switch self {
        case .text: PostText.render(event, into: &out)
        case .json: PostJSON.render(event, into: &out)
        case .raw: if case .frame(_, let bytes) = event { out.writeImmutableBuffer(bytes) }
        }
    }
}
