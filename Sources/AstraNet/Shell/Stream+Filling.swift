public import NIOCore

/// Reads into a buffer of the reader's: for a reader that knows how many bytes it waits for.
extension Stream {
    /// Appends bytes to `buffer` until there are `count` more, waiting for them; fewer at the end of file.
    ///
    /// The event loop puts them there as they come, and returns their credit without waiting for the reader, a quarter of the
    /// window at a time: the reader wakes once for all of them, and each byte is copied once. Bytes that came stay in `buffer`
    /// if this throws.
    ///
    /// - Parameters:
    ///   - count: how many bytes, at least 1.
    ///   - buffer: where to; room for what comes is made where there is none.
    ///   - deadline: when to give up, `nil` for never.
    /// - Returns: how many bytes came: `count`, or fewer where the end of file is behind them.
    /// - Throws: as ``receive(deadline:)``.
    public nonisolated(nonsending) func receive(
        _ count: Int, into buffer: inout ByteBuffer, deadline: ContinuousClock.Instant? = nil
    ) async throws -> Int {
        precondition(count > 0, "nothing to wait for")
        let end = buffer.writerIndex + count
        let needsFlush = withStorage { storage in
            storage.beginFilling(&buffer, count, link.buffered)
        }
        defer { withStorage { $0.endFilling(&buffer) } }
        if needsFlush { link.markDirty(self) }
        try await wait(for: .filling, deadline: deadline) { storage in
            storage.filled
        } timeoutMessage: {
            "not enough came from \(self.remoteAddress) in time"
        }
        return count - (end - withStorage { $0.active?.state.filling?.buffer.writerIndex ?? end })
    }

    /// A reader's buffer while the stream fills it.
    struct Filling {
        var buffer: ByteBuffer
        /// How many bytes it still waits for.
        var missing: Int
    }
}

extension Stream.Storage {
    /// Takes over the reader's buffer and puts the bytes that are there into it. Returns whether the caller must tell the link.
    fileprivate mutating func beginFilling(_ buffer: inout ByteBuffer, _ count: Int, _ budget: BufferBudget) -> Bool {
        let active = activate()
        precondition(
            active.state.filling == nil && active.state.waiters[.reading] == nil, "two tasks read from one stream")
        var lent = ByteBuffer()
        swap(&lent, &buffer)
        active.state.filling = Stream.Filling(buffer: lent, missing: count)
        let unread = active.state.inbox.readableBytes
        if unread > 0, let bytes = active.state.inbox.readSlice(length: min(count, unread)) {
            // The rest must not keep the memory of the bytes that were taken.
            if bytes.readableBytes == unread { active.state.inbox = ByteBuffer() }
            budget.give(bytes.readableBytes)
            _ = fill(bytes)
        }
        // Also for bytes that were taken before: no other code looks at their credit until more bytes come.
        return creditIsDue(isDry: false)
    }

    fileprivate mutating func endFilling(_ buffer: inout ByteBuffer) {
        guard let active, var filling = active.state.filling else { return }
        active.state.filling = nil
        swap(&filling.buffer, &buffer)
        deactivateIfIdle()
    }

    /// Gives the reader as many of `bytes` as it waits for, and returns the rest.
    mutating func fill(_ bytes: ByteBuffer) -> ByteBuffer {
        guard let active, let missing = active.state.filling?.missing, missing > 0 else { return bytes }
        var rest = bytes
        guard let part = rest.readSlice(length: min(missing, bytes.readableBytes)) else { return bytes }
        active.state.filling?.buffer.writeImmutableBuffer(part)
        active.state.filling?.missing = missing - part.readableBytes
        state.took(part.readableBytes)
        return rest
    }

    /// The result of the wait for bytes; `nil` while bytes are missing that may come.
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
