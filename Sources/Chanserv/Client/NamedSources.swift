import DequeModule
import NIOCore
import Synchronization

/// The sources of a request whose server announces them by name, as Go servers do (`docs/protocol.md` §5). Dials each
/// source when its name arrives, up to a limit ahead of the consumer.
///
/// Announcements are handled on the event loop of the connection. This type has no task.
final class NamedSources: ConnectionDelegate {
    /// Maximum bytes of headers that are buffered for the consumer, in all sources together: 8 MiB.
    fileprivate static let headerBuffer = 8 << 20

    fileprivate enum Phase {
        case receiving
        case finished
        case failed(ChanservError)
        case cancelled
    }

    fileprivate struct Storage: ~Copyable {
        var phase = Phase.receiving
        var decoder = FrameDecoder(decompresses: false)
        /// A header whose name has not arrived yet.
        var header: ByteBuffer?
        var ready = Deque<ReceivedSource>()
        var readyBytes = 0
        /// Sources whose dial is not answered. A server drops the names of a request when its client closes the
        /// request's connection. After a cancellation the connection is therefore closed only when this is 0.
        var dialling = 0
        /// Whether the server has announced a source.
        var hasAnswered = false
    }

    private let master: any Connection
    private let multiplexer: any Multiplexer
    private let configuration: Client.Configuration
    /// The deadline of the request.
    private let deadline: ContinuousClock.Instant?
    private let storage: Mutex<Storage>
    /// Signals the consumer that a source is ready or that no more will come.
    private let sourcesChanged = Event()

    init(
        _ master: any Connection, _ multiplexer: any Multiplexer, _ configuration: Client.Configuration,
        deadline: ContinuousClock.Instant?, first: ByteBuffer?
    ) {
        self.master = master
        self.multiplexer = multiplexer
        self.configuration = configuration
        self.deadline = deadline
        storage = Mutex(Storage())
        if let first { storage.withLock { $0.decoder.append(first) } }
    }

    func start() {
        master.setDelegate(self)
        // Handles bytes that arrived before the delegate was set.
        readSoon()
    }

    var hasAnswered: Bool { storage.withLock { $0.hasAnswered } }

    // MARK: - The consumer

    nonisolated(nonsending) func next() async throws(ChanservError) -> ReceivedSource? {
        let surroundings = multiplexer.surroundings
        let deadline =
            configuration.masterReadTimeout.map { (surroundings.now() + $0).orEarlier(self.deadline) } ?? self.deadline
        while true {
            let (source, phase, wasFull) = storage.withLock { storage in
                let wasFull = storage.isFull(configuration)
                let source = storage.ready.popFirst()
                if let source { storage.readyBytes -= source.header.readableBytes }
                return (source, storage.phase, wasFull)
            }
            if let source {
                if wasFull { readSoon() }
                return source
            }
            switch phase {
            case .finished: return nil
            case .failed(let error):
                // The error is thrown once. Later calls return `nil`.
                storage.withLock { $0.phase = .finished }
                throw error
            case .cancelled: throw ChanservError(.cancelled, "the request was cancelled")
            case .receiving: break
            }
            switch await sourcesChanged.wait(deadline: deadline, surroundings) {
            case .signalled: continue
            case .cancelled: throw ChanservError(.cancelled, "waiting for a source", cause: CancellationError())
            case .expired:
                let isRequests = self.deadline.map { $0 <= surroundings.now() } ?? false
                let what = isRequests ? "the deadline of the request" : "master read timeout"
                ended(.failed(ChanservError(.deadlineExceeded, "waiting for a source: \(what)")))
            }
        }
    }

    func cancel() {
        let (dropped, isEnding, closes) = storage.withLock { storage -> (Deque<ReceivedSource>, Bool, Bool) in
            var dropped = Deque<ReceivedSource>()
            swap(&dropped, &storage.ready)
            // If all sources are already announced, only the buffered sources are given up.
            guard case .receiving = storage.phase else { return (dropped, false, false) }
            storage.phase = .cancelled
            return (dropped, true, storage.dialling == 0)
        }
        for source in dropped { source.cancel() }
        sourcesChanged.signal()
        if isEnding { closeMaster(now: closes) }
    }

    /// Closes the request's connection now, or when the last dial is answered, at the latest after the dial timeout.
    ///
    /// A server drops names that are not dialled yet when its client closes the request's connection
    /// (`docs/protocol.md` §5).
    private func closeMaster(now isNow: Bool) {
        guard !isNow else { return master.close() }
        let surroundings = multiplexer.surroundings
        _ = surroundings.schedule(surroundings.now() + configuration.dialTimeout) { [master] in master.close() }
    }

    // MARK: - The network

    /// Handles what has arrived, on the event loop of the connection.
    private func readSoon() {
        // A connection that has ended calls no delegate, so this calls it directly.
        master.runSoon { self.connectionChanged() }
    }

    func connectionChanged() {
        while true {
            enum Step { case done, read, dial(String, header: ByteBuffer), fail(ChanservError) }
            let step = storage.withLock { storage -> Step in
                guard case .receiving = storage.phase, !storage.isFull(configuration) else { return .done }
                do throws(ChanservError) {
                    guard let frame = try storage.decoder.next() else { return .read }
                    guard let header = storage.header.take() else {
                        storage.header = frame
                        guard let frame = try storage.decoder.next(), let header = storage.header.take() else {
                            return .read
                        }
                        return .dial(try Self.name(frame), header: header)
                    }
                    return .dial(try Self.name(frame), header: header)
                } catch {
                    return .fail(error)
                }
            }
            switch step {
            case .done: return
            case .fail(let error): return ended(.failed(error))
            case .dial(let name, let header): add(name, header)
            case .read:
                switch master.take() {
                case .bytes(let bytes): storage.withLock { $0.decoder.append(bytes) }
                case .nothing: return
                case .finished: return ended(end())
                case .failed(let error):
                    return ended(.failed(ChanservError(error, while: "waiting for a source's header")))
                }
            }
        }
    }

    private static func name(_ frame: ByteBuffer) throws(ChanservError) -> String {
        guard frame.readableBytes > 0, frame.readableBytes <= WireFormat.maxNameSize,
            let text = String(validating: frame.readableBytesView, as: UTF8.self)
        else {
            throw ChanservError(.wrongAnnouncement, "a name of \(frame.readableBytes) bytes")
        }
        return text
    }

    /// Checks that the stream ended between two announcements, and returns the phase that follows.
    private func end() -> Phase {
        storage.withLock { storage in
            do throws(ChanservError) {
                try storage.decoder.finish()
                guard storage.header == nil else {
                    throw ChanservError(.truncatedFrame, "the stream ended between a source's header and its name")
                }
                return .finished
            } catch {
                return .failed(error)
            }
        }
    }

    private func add(_ name: String, _ header: ByteBuffer) {
        storage.withLock { storage in
            storage.dialling += 1
            storage.hasAnswered = true
        }
        let receiver = SourceReceiver(name, multiplexer, configuration, deadline: deadline) { [self] in
            let closes = storage.withLock { storage -> Bool in
                storage.dialling -= 1
                if case .receiving = storage.phase { return false }
                return storage.dialling == 0
            }
            if closes { master.close() }
        }
        receiver.dial(from: master)
        let source = ReceivedSource(
            header: header, connection: master,
            frames: ReceivedFrames(receiver, batchLimit: configuration.frameBuffer))
        let isWanted = storage.withLock { storage -> Bool in
            guard case .receiving = storage.phase else { return false }
            storage.ready.append(source)
            storage.readyBytes += source.header.readableBytes
            return true
        }
        if isWanted { sourcesChanged.signal() } else { source.cancel() }
    }

    private func ended(_ phase: Phase) {
        let (isFirst, closes) = storage.withLock { storage -> (Bool, Bool) in
            guard case .receiving = storage.phase else { return (false, false) }
            storage.phase = phase
            // A server that has announced all its sources keeps their names when its client closes the connection.
            if case .finished = phase { return (true, true) }
            return (true, storage.dialling == 0)
        }
        sourcesChanged.signal()
        guard isFirst else { return }
        closeMaster(now: closes)
        if case .failed(let error) = phase { configuration.onError(error) }
    }
}

extension NamedSources.Storage {
    fileprivate func isFull(_ configuration: Client.Configuration) -> Bool {
        guard !ready.isEmpty else { return false }
        return ready.count >= max(1, configuration.sourceBuffer) || readyBytes >= NamedSources.headerBuffer
    }
}
