public import NIOCore

/// Reads of a known number of bytes into a buffer of the reader.
extension Stream {
    /// Appends `count` bytes to `buffer`, and waits until all of them have arrived or the stream ends.
    ///
    /// The event loop writes arriving bytes directly to the buffer and returns their credit, a quarter of the window at
    /// a time. So the reader wakes once for all bytes, and each byte is copied once. If the function throws, the bytes
    /// that have arrived stay in `buffer`.
    ///
    /// - Parameters:
    ///   - count: the number of bytes, at least 1.
    ///   - buffer: the destination. It grows as needed.
    ///   - deadline: the deadline of the wait; `nil` for none.
    /// - Returns: the number of bytes that were appended: `count`, or fewer at the end of file.
    /// - Throws: as ``receive(deadline:)``.
    public nonisolated(nonsending) func receive(
        _ count: Int, into buffer: inout ByteBuffer, deadline: ContinuousClock.Instant? = nil
    ) async throws -> Int {
        precondition(count > 0, "the number of bytes to receive must be at least 1")
        let end = buffer.writerIndex + count
        let needsFlush = withStorage { storage in
            storage.beginFilling(&buffer, count, link.buffered)
        }
        defer { withStorage { $0.endFilling(&buffer) } }
        if needsFlush { link.markDirty(self) }
        try await wait(for: .filling, deadline: deadline) { storage in
            storage.filled
        } timeoutMessage: {
            "received too few bytes from \(self.remoteAddress)"
        }
        return count - (end - withStorage { $0.active?.state.filling?.buffer.writerIndex ?? end })
    }

    /// The buffer of a reader while the stream fills it.
    struct Filling {
        var buffer: ByteBuffer
        /// The number of bytes that are still to be written to the buffer.
        var missing: Int
    }
}

extension Stream.Storage {
    /// Takes over the reader's buffer and writes the unread bytes to it. Returns whether the caller must tell the link
    /// that the stream has credit to send.
    fileprivate mutating func beginFilling(_ buffer: inout ByteBuffer, _ count: Int, _ budget: BufferBudget) -> Bool {
        let active = activate()
        precondition(
            active.state.filling == nil && active.state.waiters[.reading] == nil, "two tasks read from one stream")
        var lent = ByteBuffer()
        swap(&lent, &buffer)
        active.state.filling = Stream.Filling(buffer: lent, missing: count)
        let unread = active.state.inbox.readableBytes
        if unread > 0, let bytes = active.state.inbox.readSlice(length: min(count, unread)) {
            // An empty slice would keep the memory of the taken bytes alive.
            if bytes.readableBytes == unread { active.state.inbox = ByteBuffer() }
            budget.give(bytes.readableBytes)
            _ = fill(bytes)
        }
        // This includes the credit of bytes that were taken before: no other code checks it until more bytes arrive.
        return creditIsDue(isDry: false)
    }

    fileprivate mutating func endFilling(_ buffer: inout ByteBuffer) {
        guard let active, var filling = active.state.filling else { return }
        active.state.filling = nil
        swap(&filling.buffer, &buffer)
        deactivateIfIdle()
    }

    /// Writes bytes to the reader's buffer, up to the number that is missing. Returns the rest.
    mutating func fill(_ bytes: ByteBuffer) -> ByteBuffer {
        guard let active, let missing = active.state.filling?.missing, missing > 0 else { return bytes }
        var rest = bytes
        guard let part = rest.readSlice(length: min(missing, bytes.readableBytes)) else { return bytes }
        active.state.filling?.buffer.writeImmutableBuffer(part)
        active.state.filling?.missing = missing - part.readableBytes
        state.took(part.readableBytes)
        return rest
    }

    /// The result of the wait; `nil` while more bytes must and can arrive.
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
