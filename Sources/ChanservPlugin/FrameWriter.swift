/// Where the frames of a source go.
///
/// Each function waits while the client has not read enough of the frames before: at most 256 KiB or 1,024 frames wait
/// in the plugin, or one larger frame. Each throws `CancellationError` once the source, or the task, is cancelled, and
/// ``PluginError`` where a frame has more than 100 MiB.
public struct FrameWriter: Sendable {
    let pipe: Pipe<FrameQueue>

    /// Writes bytes as a frame. A large array is kept, not copied, until the host takes it.
    public func write(_ frame: [UInt8]) async throws {
        guard frame.count >= FrameQueue.largeSize else { return try await write(frame.span.bytes) }
        try checkSize(frame.count, "frame")
        try await pipe.write(size: frame.count) { $0.append(sharing: frame) }
    }

    /// Writes a frame that the host sends from the plugin's memory: nothing of it is copied, neither here nor there, if it
    /// has 8 KiB or more. The same frame may be lent any number of times, to any sources.
    public func lend(_ frame: FrameBuffer) async throws {
        try await lend(frame.bytes, owner: frame)
    }

    /// Writes a frame that the host sends from memory that the plugin manages itself.
    ///
    /// - Parameters:
    ///   - bytes: must stay where they are and must not change for as long as `owner` is referred to. Never a file mapping:
    ///     when the file is truncated, reading it ends the host.
    ///   - owner: kept until the host does not need the bytes any more, perhaps long after the source has ended; at once if
    ///     the host copied them. Its `deinit` runs on any thread and must be as quick as a poll.
    public func lend(_ bytes: UnsafeRawBufferPointer, owner: some AnyObject & Sendable) async throws {
        try checkSize(bytes.count, "frame")
        try await pipe.write(size: bytes.count) { $0.append(lending: bytes, of: owner) }
    }

    /// Writes bytes as a frame, from wherever they are: no array is made of them.
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

    /// Writes a frame that is made in the host's outgoing buffer, without a copy: when it is its turn, `fill` is given
    /// room for `capacity` bytes, and what it has written there when it returns is the frame.
    ///
    /// ```swift
    /// try await frames.write(upTo: 65_536) { room in
    ///     for _ in 0..<8_192 { room.append(0 as UInt64, as: UInt64.self) }
    /// }
    /// ```
    ///
    /// `fill` runs later, on a thread of the host's that others need too: it must not wait for anything. The source ends
    /// with the error that it throws. It does not run where the client does not come for the frame.
    ///
    /// - Parameter capacity: at least one byte; all of it counts for what may wait in the plugin.
    public func write(
        upTo capacity: Int, _ fill: @escaping @Sendable (_ room: inout OutputRawSpan) throws -> Void
    ) async throws {
        try checkSize(capacity, "frame")
        try await pipe.write(size: capacity) { $0.append(capacity: max(1, capacity), fill) }
    }
}
