import NIOCore
import Synchronization

/// One request at the client: how its sources arrive, and how it ended.
///
/// A server pushes its sources (`docs/protocol.md` §6), or announces them by name (§5, ``NamedSources``). It decides
/// with the first source. This type has no task: pushed sources stay in the connection until the consumer takes them.
final class PostedRequest: Sendable {
    private enum Stage {
        /// Nothing has arrived that shows how the sources arrive.
        case undecided
        case pushed
        case named(NamedSources)
        case finished
        case cancelled
    }

    private struct Storage: ~Copyable {
        var stage = Stage.undecided
        /// A source that the consumer took and whose header has not arrived yet.
        var pending: SourceReceiver?
    }

    private let connection: any Connection
    private let multiplexer: any Multiplexer
    private let configuration: Client.Configuration
    private let deadline: ContinuousClock.Instant?
    /// The error that stopped the sending of the request. It is thrown if the server ends the request without sources.
    private let unsent: ChanservError?
    private let storage: Mutex<Storage>

    init(
        _ connection: any Connection, _ multiplexer: any Multiplexer, _ configuration: Client.Configuration,
        deadline: ContinuousClock.Instant?, unsent: ChanservError?
    ) {
        self.connection = connection
        self.multiplexer = multiplexer
        self.configuration = configuration
        self.deadline = deadline
        self.unsent = unsent
        guard connection.expectsPush else {
            let named = NamedSources(connection, multiplexer, configuration, deadline: deadline, first: nil)
            storage = Mutex(Storage(stage: .named(named)))
            named.start()
            return
        }
        storage = Mutex(Storage())
    }

    deinit { cancel() }

    /// Returns the next source; `nil` after the last one.
    nonisolated(nonsending) func next() async throws(ChanservError) -> ReceivedSource? {
        while true {
            let (stage, pending) = storage.withLock { ($0.stage, $0.pending.take()) }
            switch stage {
            case .named(let named): return try await nextNamed(named)
            case .finished: return nil
            case .cancelled: throw ChanservError(.cancelled, "the request was cancelled")
            case .undecided, .pushed: break
            }
            if let pending { return try await handOver(pending) }
            switch try await nextEvent() {
            case .pushed(let pushed):
                storage.withLock { storage in
                    if case .undecided = storage.stage { storage.stage = .pushed }
                }
                return try await handOver(SourceReceiver(pushed, multiplexer, configuration, deadline: deadline))
            case .bytes(let bytes):
                guard case .undecided = stage else {
                    throw fail(ChanservError(.wrongAnnouncement, "the server pushed sources, and then named one"))
                }
                let named = NamedSources(
                    connection, multiplexer, configuration, deadline: deadline, first: bytes)
                let isWanted = storage.withLock { storage -> Bool in
                    guard case .undecided = storage.stage else { return false }
                    storage.stage = .named(named)
                    return true
                }
                if isWanted { named.start() }
            case .failed(let error): throw fail(ChanservError(error, while: "waiting for a source"))
            case .nothing: continue
            case .finished:
                connection.releaseGrant()
                connection.close()
                storage.withLock { storage in
                    if case .cancelled = storage.stage { return }
                    storage.stage = .finished
                }
                if case .undecided = stage, let unsent { throw unsent }
                return nil
            }
        }
    }

    private nonisolated(nonsending) func nextNamed(_ named: NamedSources) async throws(ChanservError) -> ReceivedSource?
    {
        let source = try await named.next()
        if source == nil, !named.hasAnswered, let unsent { throw unsent }
        return source
    }

    /// The deadline for a wait that starts now; `nil` for none.
    private var readDeadline: ContinuousClock.Instant? {
        configuration.masterReadTimeout.map { (multiplexer.surroundings.now() + $0).orEarlier(deadline) } ?? deadline
    }

    /// Returns a message suffix that names the deadline that passed; empty for another error.
    private func reason(for error: any Error) -> String {
        guard (error as? ConnectionError)?.code == .deadlineExceeded else { return "" }
        let isRequests = deadline.map { $0 <= multiplexer.surroundings.now() } ?? false
        return isRequests ? ": the deadline of the request" : ": master read timeout"
    }

    private nonisolated(nonsending) func nextEvent() async throws(ChanservError) -> ConnectionEvent {
        do {
            return try await connection.nextEvent(deadline: readDeadline)
        } catch is CancellationError {
            throw ChanservError(.cancelled, "waiting for a source", cause: CancellationError())
        } catch {
            if case .cancelled = storage.withLock({ $0.stage }) {
                throw ChanservError(.cancelled, "the request was cancelled")
            }
            throw fail(ChanservError(error, while: "waiting for a source" + reason(for: error)))
        }
    }

    /// Reads the header of a source, which comes before its frames, and returns the source.
    private nonisolated(nonsending) func handOver(_ receiver: SourceReceiver) async throws(ChanservError)
        -> ReceivedSource
    {
        do throws(ChanservError) {
            let header = try await receiver.readHeader(deadline: readDeadline)
            return ReceivedSource(
                header: header, connection: connection,
                frames: ReceivedFrames(receiver, batchLimit: configuration.frameBuffer))
        } catch {
            if error.cause is CancellationError {
                // The request goes on. The next call of `next()` returns this source.
                let isWanted = storage.withLock { storage -> Bool in
                    switch storage.stage {
                    case .undecided, .pushed: storage.pending = receiver
                    case .named, .finished, .cancelled: return false
                    }
                    return true
                }
                if !isWanted { receiver.cancel() }
                throw error
            }
            receiver.cancel()
            throw fail(error)
        }
    }

    private func fail(_ error: ChanservError) -> ChanservError {
        let pending = storage.withLock { storage in
            storage.stage = .finished
            return storage.pending.take()
        }
        pending?.cancel()
        connection.close()
        configuration.onError(error)
        return error
    }

    /// Ends the request. Sources that the consumer has not received are given up; the others go on.
    func cancel() {
        let (named, pending, closes) = storage.withLock { storage -> (NamedSources?, SourceReceiver?, Bool) in
            let pending = storage.pending.take()
            switch storage.stage {
            case .named(let named): return (named, pending, false)
            case .finished, .cancelled: return (nil, pending, false)
            case .undecided, .pushed:
                storage.stage = .cancelled
                return (nil, pending, true)
            }
        }
        pending?.cancel()
        named?.cancel()
        if closes { connection.close() }
    }
}
