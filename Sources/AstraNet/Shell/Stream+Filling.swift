public import NIOCore

/// Reading into memory of the reader's own: for those who know how much they wait for.
extension Stream {
    /// Appends bytes to `buffer` until there are `count` more, waiting for them; fewer at the end of file.
    ///
    /// They are put there as they come, and their credit returned without waiting for the reader, a quarter of the window at a
    /// time: the reader wakes once for all of them, and each is copied once. What came stays in `buffer` where this throws.
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
        try await wait(
            for: \.filler, deadline: deadline, timeoutMessage: { "not enough came from \(self.remoteAddress) in time" },
            ready: { $0.filled })
        return count - (end - withStorage { $0.desk?.work.filling?.buffer.writerIndex ?? end })
    }

    /// A reader's buffer, while the stream fills it.
    struct Filling {
        var buffer: ByteBuffer
        /// How many bytes it still waits for.
        var missing: Int
    }
}

extension Stream.Storage {
    /// Takes over the reader's buffer, and puts into it what is there already; whether the caller must tell the link.
    fileprivate mutating func beginFilling(_ buffer: inout ByteBuffer, _ count: Int, _ budget: BufferBudget) -> Bool {
        let desk = atDesk()
        precondition(desk.work.filling == nil && desk.work.reader == nil, "two tasks read from one stream")
        var lent = ByteBuffer()
        swap(&lent, &buffer)
        desk.work.filling = Stream.Filling(buffer: lent, missing: count)
        let unread = desk.work.inbox.readableBytes
        if unread > 0, let bytes = desk.work.inbox.readSlice(length: min(count, unread)) {
            // What is left of it must not hold on to what has been taken.
            if bytes.readableBytes == unread { desk.work.inbox = ByteBuffer() }
            budget.give(bytes.readableBytes)
            _ = fill(bytes)
        }
        // Also for what was taken before: nobody else looks at it until more comes.
        return creditIsDue(isDry: false)
    }

    fileprivate mutating func endFilling(_ buffer: inout ByteBuffer) {
        guard let desk, var filling = desk.work.filling else { return }
        desk.work.filling = nil
        swap(&filling.buffer, &buffer)
        leaveDesk()
    }

    /// Gives the reader as many of `bytes` as it waits for, and returns the rest.
    mutating func fill(_ bytes: ByteBuffer) -> ByteBuffer {
        guard let desk, let missing = desk.work.filling?.missing, missing > 0 else { return bytes }
        var rest = bytes
        guard let part = rest.readSlice(length: min(missing, bytes.readableBytes)) else { return bytes }
        desk.work.filling?.buffer.writeImmutableBuffer(part)
        desk.work.filling?.missing = missing - part.readableBytes
        state.took(part.readableBytes)
        return rest
    }

    /// What became of the wait for bytes; `nil` while some are missing that may come.
    var filled: Result<Void, any Error>? {
        guard let missing = desk?.work.filling?.missing else { return nil }
        if missing == 0 { return .success(()) }
        switch state.reading {
        case .open: return nil
        case .finished: return .success(())
        case .failed(let error): return .failure(error)
        }
    }
}
