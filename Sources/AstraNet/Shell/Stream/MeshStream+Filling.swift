public import NIOCore

/// Reads of a known number of bytes into the caller's buffer.
extension MeshStream {
    /// Waits for `count` bytes and appends them to `buffer`.
    ///
    /// The event loop appends bytes when they arrive, and returns their credit without waiting for the reader, a
    /// quarter of the window at a time. So the reader is resumed once for all bytes, and each byte is copied once. If
    /// this throws, the bytes that arrived are in `buffer`.
    ///
    /// - Parameters:
    ///   - count: the number of bytes, at least 1.
    ///   - buffer: the buffer. It grows if necessary.
    ///   - deadline: the time at which the wait ends with an error; `nil` for none.
    /// - Returns: the number of appended bytes. It is less than `count` only at the end of file.
    /// - Throws: the same errors as ``receive(deadline:)``.
    public nonisolated(nonsending) func receive(
        _ count: Int, into buffer: inout ByteBuffer, deadline: ContinuousClock.Instant? = nil
    ) async throws -> Int {
        precondition(count > 0, "the number of bytes to wait for must be at least 1")
        let end = buffer.writerIndex + count
        let needsFlush = withStorage { storage in
            storage.beginFilling(&buffer, count, link.buffered)
        }
        defer { withStorage { $0.endFilling(&buffer) } }
        if needsFlush { link.markDirty(self) }
        try await wait(for: .filling, deadline: deadline) { storage in
            storage.filled
        } timeoutMessage: {
            "not enough bytes arrived from \(self.remoteAddress) in time"
        }
        return count - (end - withStorage { $0.active?.state.filling?.buffer.writerIndex ?? end })
    }

    /// A reader's buffer while the stream fills it.
    package struct Filling {
        var buffer: ByteBuffer
        /// Number of bytes that have not arrived.
        package var missing: Int
    }
}

extension MeshStream.Storage {
    /// Takes over the reader's buffer and appends the bytes that have arrived. Returns whether the caller must queue
    /// the stream with ``Link/markDirty(_:)``.
    fileprivate mutating func beginFilling(_ buffer: inout ByteBuffer, _ count: Int, _ budget: BufferBudget) -> Bool {
        let active = activate()
        precondition(
            active.state.filling == nil && active.state.waiters[.reading] == nil, "two tasks read from one stream")
        var lent = ByteBuffer()
        swap(&lent, &buffer)
        active.state.filling = MeshStream.Filling(buffer: lent, missing: count)
        let unread = active.state.inbox.readableBytes
        if unread > 0, let bytes = active.state.inbox.readSlice(length: min(count, unread)) {
            // An empty inbox must not keep the memory of the bytes that were read.
            if bytes.readableBytes == unread { active.state.inbox = ByteBuffer() }
            budget.give(bytes.readableBytes)
            _ = fill(bytes)
        }
        // This includes credit for bytes that were read before: no other code returns it until more bytes arrive.
        return creditIsDue(isDry: false)
    }

    fileprivate mutating func endFilling(_ buffer: inout ByteBuffer) {
        guard let active, var filling = active.state.filling else { return }
        active.state.filling = nil
        swap(&filling.buffer, &buffer)
        deactivateIfIdle()
    }

    /// Appends bytes to the reader's buffer until it is filled. Returns the rest of `bytes`.
    mutating func fill(_ bytes: ByteBuffer) -> ByteBuffer {
        guard let active, let missing = active.state.filling?.missing, missing > 0 else { return bytes }
        var rest = bytes
        guard let part = rest.readSlice(length: min(missing, bytes.readableBytes)) else { return bytes }
        active.state.filling?.buffer.writeImmutableBuffer(part)
        active.state.filling?.missing = missing - part.readableBytes
        state.took(part.readableBytes)
        return rest
    }

    /// Result of the wait; `nil` while missing bytes may still arrive.
    var filled: Result<Void, any Error>? {
        guard let missing = active?.state.filling?.missing else { return nil }
        if missing == 0 { return .success(()) }
        switch state.reading {
        case .open: return nil
        case .finished: return .success(())
        case .failed(let failure): return .failure(failure.error)
        }
    }
}
