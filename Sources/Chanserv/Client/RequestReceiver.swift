import DequeModule
import NIOConcurrencyHelpers
import NIOCore

/// Reads what a service announces, and dials each source at once, a bounded number ahead of the consumer.
final class RequestReceiver: Sendable {
    /// How many bytes of headers may wait for the consumer, whatever their number.
    private static let headerBuffer = 8 << 20

    private enum Phase {
        case receiving
        case finished
        case failed(ChanservError)
        case cancelled
    }

    private struct Inside {
        var phase = Phase.receiving
        var ready: Deque<ReceivedSource> = []
        var readyBytes = 0
        var reader: Task<Void, Never>?
        /// Sources being dialled. Servers forget the sources of a request whose client has gone, so after a
        /// cancellation the master connection is closed only when those handed out have arrived.
        var dialling = 0

        func isFull(_ limit: Int, adding bytes: Int) -> Bool {
            guard case .receiving = phase, !ready.isEmpty else { return false }
            return ready.count >= limit || readyBytes + bytes > headerBuffer
        }
    }

    private let master: any Connection
    private let multiplexer: any Multiplexer
    private let configuration: Client.Configuration
    private let unsent: ChanservError?
    private let inside = NIOLockedValueBox(Inside())
    /// For the consumer: there is a source, or there will be none.
    private let news = Event()
    /// For the reader: there may be room for another source.
    private let room = Event()

    /// - Parameter unsent: why the request was not sent in full; what an answer without sources means then.
    init(
        _ master: any Connection, _ multiplexer: any Multiplexer, _ configuration: Client.Configuration,
        unsent: ChanservError?
    ) {
        self.master = master
        self.unsent = unsent
        self.multiplexer = multiplexer
        self.configuration = configuration
    }

    func start() {
        let reader = Task.immediate(executorPreference: multiplexer.executor) { await self.receive() }
        let cancelled = inside.withLockedValue { inside -> Bool in
            inside.reader = reader
            if case .cancelled = inside.phase { return true }
            return false
        }
        if cancelled { reader.cancel() }
    }

    // MARK: The consumer's side

    nonisolated(nonsending) func next() async throws(ChanservError) -> ReceivedSource? {
        while true {
            let (source, phase) = inside.withLockedValue { inside in
                let source = inside.ready.popFirst()
                if let source { inside.readyBytes -= source.header.readableBytes }
                return (source, inside.phase)
            }
            if let source {
                room.signal()
                return source
            }
            switch phase {
            case .finished: return nil
            case .failed(let error):
                // Once: as with every sequence, there is nothing after the error.
                inside.withLockedValue { $0.phase = .finished }
                throw error
            case .cancelled: throw ChanservError(.cancelled, "the request was cancelled")
            case .receiving: break
            }
            if await news.wait() == .cancelled {
                throw ChanservError(.cancelled, "waiting for a source", cause: CancellationError())
            }
        }
    }

    func cancel() {
        let (dropped, reader, closes) = inside.withLockedValue { inside in
            let dropped = inside.ready
            inside.ready = []
            // Announced to the end: what nobody took is given up, and that is all.
            guard case .receiving = inside.phase else { return (dropped, nil as Task<Void, Never>?, false) }
            inside.phase = .cancelled
            return (dropped, inside.reader, inside.dialling == 0)
        }
        for source in dropped { source.cancel() }
        reader?.cancel()
        news.signal()
        if closes { master.close() }
    }

    // MARK: The reader's side

    private func receive() async {
        do {
            try await receiveAll()
            master.close()
            ended(.finished)
        } catch {
            let failure = ChanservError(error, while: "reading announcements")
            if ended(.failed(failure)) {
                master.close()
                configuration.onError(failure)
            }
        }
    }

    private func receiveAll() async throws {
        var decoder = FrameDecoder(decompresses: false)
        let meta = SourceMeta(master.addresses)
        var answered = false
        while let header = try await nextFrame(&decoder, while: "waiting for a source's header") {
            guard let name = try await nextFrame(&decoder, while: "waiting for a source's name") else {
                throw ChanservError(.truncatedFrame, "the stream ended between a source's header and its name")
            }
            guard name.readableBytes > 0, name.readableBytes <= WireFormat.maxNameSize,
                let text = try? name.getUTF8ValidatedString(at: name.readerIndex, length: name.readableBytes)
            else {
                throw ChanservError(.wrongAnnouncement, "a name of \(name.readableBytes) bytes")
            }
            answered = true
            try await waitForRoom(for: header)
            add(ReceivedSource(header: header, meta: meta, frames: dial(text)))
        }
        if let unsent, !answered { throw unsent }
    }

    private func nextFrame(_ decoder: inout FrameDecoder, while what: String) async throws -> ByteBuffer? {
        let deadline = configuration.masterReadTimeout.deadline
        while true {
            if let frame = try decoder.next() { return frame }
            let bytes: ByteBuffer?
            do {
                bytes = try await master.read(deadline: deadline)
            } catch {
                throw ChanservError(error, while: "master read timeout or failure \(what)")
            }
            guard let bytes else {
                try decoder.finish()
                return nil
            }
            decoder.append(bytes)
        }
    }

    private func dial(_ name: String) -> ReceivedFrames {
        inside.withLockedValue { $0.dialling += 1 }
        return ReceivedFrames(
            SourceReceiver(name, from: master, multiplexer, configuration) {
                let closes = self.inside.withLockedValue { inside -> Bool in
                    inside.dialling -= 1
                    if case .cancelled = inside.phase { return inside.dialling == 0 }
                    return false
                }
                if closes { self.master.close() }
            }, batchLimit: configuration.frameBuffer)
    }

    private func add(_ source: ReceivedSource) {
        let wanted = inside.withLockedValue { inside -> Bool in
            guard case .receiving = inside.phase else { return false }
            inside.ready.append(source)
            inside.readyBytes += source.header.readableBytes
            return true
        }
        if wanted { news.signal() } else { source.cancel() }
    }

    private func waitForRoom(for header: ByteBuffer) async throws {
        let limit = max(1, configuration.sourceBuffer)
        while inside.withLockedValue({ $0.isFull(limit, adding: header.readableBytes) }) {
            _ = await room.wait()
            try Task.checkCancellation()
        }
    }

    /// - Returns: whether this was news: a cancelled request has ended already.
    @discardableResult
    private func ended(_ phase: Phase) -> Bool {
        let first = inside.withLockedValue { inside -> Bool in
            guard case .receiving = inside.phase else { return false }
            inside.phase = phase
            return true
        }
        news.signal()
        return first
    }
}
