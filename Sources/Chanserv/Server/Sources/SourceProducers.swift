extension Source {
    /// Creates a source whose frames are available at once or are made without waiting.
    public init<Frames: Sequence & Sendable>(header: some Frame, frames: Frames)
    where Frames.Element: Frame {
        self.init(header: header, producer: SequenceProducer(frames))
    }

    /// Creates a source whose frames arrive over time. Each frame is sent as soon as it arrives. If many frames arrive
    /// at once, conform to ``FrameProducer`` instead, which sends them in batches.
    public init<Frames: AsyncSequence & Sendable>(header: some Frame, frames: Frames)
    where Frames.Element: Frame {
        self.init(header: header, producer: AsyncSequenceProducer(frames))
    }
}

/// A fixed list of sources, for a ``SourceFunc`` to return.
public struct SourceList: AsyncSequence, Sendable {
    private let sources: [Source]

    /// Creates a sequence of `sources`.
    public init(_ sources: [Source]) {
        self.sources = sources
    }

    public func makeAsyncIterator() -> Iterator { Iterator(rest: sources[...]) }

    /// Returns the sources.
    public struct Iterator: AsyncIteratorProtocol {
        fileprivate var rest: ArraySlice<Source>

        public mutating func next() async throws -> Source? { rest.popFirst() }

        public mutating func next(isolation actor: isolated (any Actor)?) async throws(any Error) -> Source? {
            rest.popFirst()
        }
    }
}

/// `@unchecked Sendable`: only `produce` and `close` use the iterator. `produce` is never called concurrently with
/// itself or with `close`.
private final class SequenceProducer<Frames: Sequence & Sendable>: FrameProducer, @unchecked Sendable
where Frames.Element: Frame {
    private var iterator: Frames.Iterator?

    init(_ frames: Frames) {
        iterator = frames.makeIterator()
    }

    func produce(into batch: inout FrameBatch) async throws -> Bool {
        while !batch.isFull {
            guard let frame = iterator?.next() else { return false }
            try batch.append(frame)
        }
        return true
    }

    func close() {
        iterator = nil
    }
}

/// `@unchecked Sendable`: see `SequenceProducer`.
private final class AsyncSequenceProducer<Frames: AsyncSequence & Sendable>: FrameProducer, @unchecked Sendable
where Frames.Element: Frame {
    private nonisolated(unsafe) var iterator: Frames.AsyncIterator?

    init(_ frames: Frames) {
        iterator = frames.makeAsyncIterator()
    }

    func produce(into batch: inout FrameBatch) async throws -> Bool {
        guard let frame = try await iterator?.next() else { return false }
        try batch.append(frame)
        return true
    }

    func close() {
        iterator = nil
    }
}
