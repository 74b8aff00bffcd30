import DequeModule
import NIOCore
import Synchronization

/// The sources of a request whose server announces them by name, as Go servers do (`docs/protocol.md` §5). It dials each at
/// once, a bounded number ahead of the consumer.
///
/// It works on the threads of the network as announcements come, and has no task of its own.
final class NamedSources: ConnectionDelegate {
    /// Maximum bytes of headers that wait for the consumer, whatever their number: 8 MiB.
    fileprivate static let headerBuffer = 8 << 20

    fileprivate enum Phase {
        case receiving
        case finished
        case failed(ChanservError)
        case cancelled
    }

    fileprivate struct Inside: ~Copyable {
        var phase = Phase.receiving
        var decoder = FrameDecoder(decompresses: false)
        /// The header whose name has not come yet.
        var header: ByteBuffer?
        var ready = Deque<ReceivedSource>()
        var readyBytes = 0
        /// Sources that are being dialled. Servers forget the sources of a request whose client has gone, so after a
        /// cancellation the connection is closed only when those that were handed out have arrived.
        var dialling = 0
        /// Any source was announced.
        var hasAnswered = false
    }

    private let master: any Connection
    private let multiplexer: any Multiplexer
    private let configuration: Client.Configuration
    /// Of the request.
    private let deadline: ContinuousClock.Instant?
    private let inside: Mutex<Inside>
    /// For the consumer: there is a source, or there will be none.
    private let news = Event()

    init(
        _ master: any Connection, _ multiplexer: any Multiplexer, _ configuration: Client.Configuration,
        deadline: ContinuousClock.Instant?, first: ByteBuffer?
    ) {
        self.master = master
        self.multiplexer = multiplexer
        self.configuration = configuration
        self.deadline = deadline
        inside = Mutex(Inside())
        if let first { inside.withLock { $0.decoder.append(first) } }
    }

    func start() {
        master.setDelegate(self)
        // What has come already.
        readSoon()
    }

    var hasAnswered: Bool { inside.withLock { $0.hasAnswered } }

    // MARK: - The consumer

    nonisolated(nonsending) func next() async throws(ChanservError) -> ReceivedSource? {
        let surroundings = multiplexer.surroundings
        let deadline =
            configuration.masterReadTimeout.map { (surroundings.now() + $0).orEarlier(self.deadline) } ?? self.deadline
        while true {
            let (source, phase, wasFull) = inside.withLock { inside in
                let wasFull = inside.isFull(configuration)
                let source = inside.ready.popFirst()
                if let source { inside.readyBytes -= source.header.readableBytes }
                return (source, inside.phase, wasFull)
            }
            if let source {
                if wasFull { readSoon() }
                return source
            }
            switch phase {
            case .finished: return nil
            case .failed(let error):
                // Once: as with every sequence, there is nothing after the error.
                inside.withLock { $0.phase = .finished }
                throw error
            case .cancelled: throw ChanservError(.cancelled, "the request was cancelled")
            case .receiving: break
            }
            switch await news.wait(deadline: deadline, surroundings) {
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
        let (dropped, isEnding, closes) = inside.withLock { inside -> (Deque<ReceivedSource>, Bool, Bool) in
            var dropped = Deque<ReceivedSource>()
            swap(&dropped, &inside.ready)
            // Announced to the end: sources that were not taken are given up, and that is all.
            guard case .receiving = inside.phase else { return (dropped, false, false) }
            inside.phase = .cancelled
            return (dropped, true, inside.dialling == 0)
        }
        for source in dropped { source.cancel() }
        news.signal()
        if isEnding { closeMaster(now: closes) }
    }

    /// Closes the request's connection now, or when the last dial is answered, at the latest after the dial timeout.
    ///
    /// A server drops names that are not dialled yet when its client ends the request (`docs/protocol.md` §5).
    private func closeMaster(now closesNow: Bool) {
        guard !closesNow else { return master.close() }
        let surroundings = multiplexer.surroundings
        _ = surroundings.schedule(surroundings.now() + configuration.dialTimeout) { [master] in master.close() }
    }

    // MARK: - The network

    /// Looks at what came, on the network's thread.
    private func readSoon() {
        // A connection that has ended calls no delegate.
        master.runSoon { self.connectionChanged() }
    }

    func connectionChanged() {
        while true {
            enum Step { case done, read, dial(String, header: ByteBuffer), fail(ChanservError) }
            let step = inside.withLock { inside -> Step in
                guard case .receiving = inside.phase, !inside.isFull(configuration) else { return .done }
                do throws(ChanservError) {
                    guard let frame = try inside.decoder.next() else { return .read }
                    guard let header = inside.header.take() else {
                        inside.header = frame
                        guard let frame = try inside.decoder.next(), let header = inside.header.take() else {
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
                case .bytes(let bytes): inside.withLock { $0.decoder.append(bytes) }
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

    /// The server has said that there are no more.
    private func end() -> Phase {
        inside.withLock { inside in
            do throws(ChanservError) {
                try inside.decoder.finish()
                guard inside.header == nil else {
                    throw ChanservError(.truncatedFrame, "the stream ended between a source's header and its name")
                }
                return .finished
            } catch {
                return .failed(error)
            }
        }
    }

    private func add(_ name: String, _ header: ByteBuffer) {
        inside.withLock { inside in
            inside.dialling += 1
            inside.hasAnswered = true
        }
        let receiver = SourceReceiver(name, multiplexer, configuration, deadline: deadline) { [self] in
            let closes = inside.withLock { inside -> Bool in
                inside.dialling -= 1
                if case .receiving = inside.phase { return false }
                return inside.dialling == 0
            }
            if closes { master.close() }
        }
        receiver.dial(from: master)
        let source = ReceivedSource(
            header: header, connection: master,
            frames: ReceivedFrames(receiver, batchLimit: configuration.frameBuffer))
        let isWanted = inside.withLock { inside -> Bool in
            guard case .receiving = inside.phase else { return false }
            inside.ready.append(source)
            inside.readyBytes += source.header.readableBytes
            return true
        }
        if isWanted { news.signal() } else { source.cancel() }
    }

    private func ended(_ phase: Phase) {
        let (isNews, closes) = inside.withLock { inside -> (Bool, Bool) in
            guard case .receiving = inside.phase else { return (false, false) }
            inside.phase = phase
            // A server that has named all sources drops no name when its client ends the request.
            if case .finished = phase { return (true, true) }
            return (true, inside.dialling == 0)
        }
        news.signal()
        guard isNews else { return }
        closeMaster(now: closes)
        if case .failed(let error) = phase { configuration.onError(error) }
    }
}

extension NamedSources.Inside {
    fileprivate func isFull(_ configuration: Client.Configuration) -> Bool {
        guard !ready.isEmpty else { return false }
        return ready.count >= max(1, configuration.sourceBuffer) || readyBytes >= NamedSources.headerBuffer
    }
}
