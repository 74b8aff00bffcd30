/// Writes the frames of a source.
///
/// Each function waits while the client has not read enough earlier frames. The plugin buffers at most 256 KiB or 1,024
/// frames, or one larger frame. Each function throws `CancellationError` after the source or the task was cancelled,
/// and ``PluginError`` if a frame has more than 100 MiB.
public struct FrameWriter: Sendable {
    let pipe: Pipe<FrameQueue>

    /// Writes bytes as a frame. A large array is retained until the host takes it, not copied.
    public func write(_ frame: [UInt8]) async throws {
        guard frame.count >= FrameQueue.largeSize else { return try await write(frame.span.bytes) }
        try checkSize(frame.count, "frame")
        try await pipe.write(size: frame.count) { $0.append(sharing: frame) }
    }

    /// Writes a frame that the host sends directly from the plugin's memory. The host copies a frame of 8 KiB or more
    /// only in the cases that `chanserv_plugin.h` lists at `lend`. The same frame may be lent any number of times, to
    /// any sources.
    public func lend(_ frame: FrameBuffer) async throws {
        try await lend(frame.bytes, owner: frame)
    }

    /// Writes a frame that the host sends from memory that the plugin manages.
    ///
    /// - Parameters:
    ///   - bytes: the frame. It must not move or change while `owner` is retained. It must not be a file mapping: if
    ///     the file is truncated, reading the mapping crashes the host.
    ///   - owner: the owner of the bytes. It is retained until the host needs the bytes no more, perhaps long after the
    ///     end of the source, and released at once if the host copies them. Its `deinit` runs on any thread and must
    ///     return as quickly as a poll.
    public func lend(_ bytes: UnsafeRawBufferPointer, owner: some AnyObject & Sendable) async throws {
        try checkSize(bytes.count, "frame")
        try await pipe.write(size: bytes.count) { $0.append(lending: bytes, of: owner) }
    }

    /// Writes bytes as a frame without creating an array.
    public func write(_ frame: RawSpan) async throws {
        try checkSize(frame.byteCount, "frame")
        while try !frame.withUnsafeBytes({ bytes in
            try pipe.tryToWrite(size: bytes.count) { $0.append(bytes) }
        }) {
            try await pipe.waitForRoom()
        }
    }

    /// Writes bytes as a frame.
    public func write(_ frame: some Collection<UInt8> & Sendable) async throws {
        let isWritten: Bool? = try frame.withContiguousStorageIfAvailable { bytes in
            try checkSize(bytes.count, "frame")
            return try pipe.tryToWrite(size: bytes.count) { $0.append(UnsafeRawBufferPointer(bytes)) }
        }
        if isWritten != true { try await write([UInt8](frame)) }
    }

    /// Writes text as a frame.
    public func write(_ frame: String) async throws {
        try await write(frame.utf8)
    }

    /// Writes a frame that `fill` creates in the host's outgoing buffer, without a copy. The host calls `fill` when the
    /// frame is next, with room for `capacity` bytes. The bytes that it has written when it returns are the frame.
    ///
    /// ```swift
    /// try await frames.write(upTo: 65_536) { room in
    ///     for _ in 0..<8_192 { room.append(0 as UInt64, as: UInt64.self) }
    /// }
    /// ```
    ///
    /// `fill` runs later, on a thread of the host that serves other requests too, so it must not block. An error that
    /// it throws ends the source. It does not run if the client does not read that far.
    ///
    /// - Parameter capacity: maximum size of the frame, at least 1. All of it counts towards the bytes that the plugin
    ///   buffers.
    public func write(
        upTo capacity: Int, _ fill: @escaping @Sendable (_ room: inout OutputRawSpan) throws -> Void
    ) async throws {
        try checkSize(capacity, "frame")
        try await pipe.write(size: capacity) { $0.append(capacity: max(1, capacity), fill) }
    }
}
