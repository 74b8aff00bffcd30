/// A header, and a function that writes frames.
public struct Source: Sendable {
    let header: [UInt8]
    let produce: @Sendable (FrameWriter) async throws -> Void

    /// - Parameters:
    ///   - header: what the client gets with the announcement, at most 100 MiB; may be empty.
    ///   - frames: writes the frames; the source ends well when it returns, or with the error that it throws. It is
    ///     called when the client asks for the first frame, which may be never.
    public init(
        header: some Collection<UInt8>, frames: @escaping @Sendable (_ frames: FrameWriter) async throws -> Void
    ) {
        self.header = [UInt8](header)
        produce = frames
    }

    /// - Parameters:
    ///   - header: as text.
    ///   - frames: as above.
    public init(header: String, frames: @escaping @Sendable (_ frames: FrameWriter) async throws -> Void) {
        self.init(header: header.utf8, frames: frames)
    }

    /// - Parameters:
    ///   - header: what the client gets with the announcement, at most 100 MiB; may be empty.
    ///   - frames: each element is a frame. No more than what is buffered is asked of it in advance.
    public init<Frames>(header: some Collection<UInt8>, frames: Frames)
    where Frames: AsyncSequence & Sendable, Frames.Element: Collection<UInt8> & Sendable {
        self.init(header: header) { writer in
            for try await frame in frames {
                try await writer.write(frame)
            }
        }
    }
}

/// Where the sources of a request go.
public struct SourceWriter: Sendable {
    let pipe: Pipe<SourceQueue>

    /// Adds a source, waiting while the host has not taken enough of those before.
    ///
    /// - Throws: `CancellationError` once the request, or the task, is cancelled; ``PluginError`` where the header has
    ///   more than 100 MiB.
    public func add(_ source: Source) async throws {
        try checkSize(source.header.count, "header")
        try await pipe.write(size: 1) { $0.append(source) }
    }
}

/// The wire's limit (`CHANSERV_FRAME_SIZE_MAX`).
let frameSizeMax = 104_857_600

func checkSize(_ size: Int, _ what: String) throws {
    guard size <= frameSizeMax else {
        throw PluginError(.internal, "a \(what) of \(size) bytes is larger than 100 MiB")
    }
}
