/// A source: a header and a function that writes frames.
public struct Source: Sendable {
    let header: [UInt8]
    let produce: @Sendable (FrameWriter) async throws -> Void

    /// Creates a source.
    ///
    /// - Parameters:
    ///   - header: the header that the client receives, at most 100 MiB; may be empty.
    ///   - frames: writes the frames. The source succeeds when the function returns and fails with the error that it
    ///     throws. It is called when the client requests the first frame, which may never happen.
    public init(
        header: some Collection<UInt8>, frames: @escaping @Sendable (_ frames: FrameWriter) async throws -> Void
    ) {
        self.header = [UInt8](header)
        produce = frames
    }

    /// Creates a source with a text header.
    ///
    /// - Parameters:
    ///   - header: the header as text.
    ///   - frames: writes the frames, as in ``init(header:frames:)``.
    public init(header: String, frames: @escaping @Sendable (_ frames: FrameWriter) async throws -> Void) {
        self.init(header: header.utf8, frames: frames)
    }

    /// Creates a source from a sequence of frames.
    ///
    /// - Parameters:
    ///   - header: the header that the client receives, at most 100 MiB; may be empty.
    ///   - frames: the frames, one for each element. They are requested only as far as the plugin may buffer them.
    public init<Frames>(header: some Collection<UInt8>, frames: Frames)
    where Frames: AsyncSequence & Sendable, Frames.Element: Collection<UInt8> & Sendable {
        self.init(header: header) { writer in
            for try await frame in frames {
                try await writer.write(frame)
            }
        }
    }
}

/// Adds the sources of a request.
public struct SourceWriter: Sendable {
    let pipe: Pipe<SourceQueue>

    /// Adds a source. Waits while the host has not taken enough earlier sources.
    ///
    /// - Throws: `CancellationError` after the request or the task was cancelled; ``PluginError`` if the header has
    ///   more than 100 MiB.
    public func add(_ source: Source) async throws {
        try checkSize(source.header.count, "header")
        try await pipe.write(size: 1) { $0.append(source) }
    }
}

/// Maximum size of a frame or header on the wire (`CHANSERV_FRAME_SIZE_MAX`).
let frameSizeMax = 104_857_600

func checkSize(_ size: Int, _ what: String) throws {
    guard size <= frameSizeMax else {
        throw PluginError(.internal, "a \(what) of \(size) bytes is larger than 100 MiB")
    }
}
