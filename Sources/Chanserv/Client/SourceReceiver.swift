import NIOCore
import Synchronization

/// One source at the client: dials its connection if the source has a name, reads it and ends it.
package final class SourceReceiver: ConnectionDelegate {
    private enum Phase {
        /// The dial has not started because no host offers the name yet.
        case waiting
        /// Dialled; the server has not answered. The dial ends at `deadline`.
        case opening(any Connection, deadline: ContinuousClock.Instant)
        case open(any Connection)
        /// Given up before the server answered the dial.
        case abandoned(any Connection)
        case failed(any Error)
        case ended
    }

    private struct Storage: ~Copyable {
        var phase: Phase
        /// Decodes the frames. May hold bytes that arrived behind the header.
        var decoder = FrameDecoder(decompresses: true)
        var onDialled: (@Sendable () -> Void)?
    }

    private let frameReadTimeout: Duration?
    private let multiplexer: any Multiplexer
    /// The deadline of the request.
    private let deadline: ContinuousClock.Instant?
    private let name: String
    private let dialTimeout: Duration
    private let onError: @Sendable (ChanservError) -> Void
    /// Signals that the dial of a named source started, was answered or failed. `nil` for a pushed source.
    private let dialChanged: Event?
    private let storage: Mutex<Storage>

    /// Creates the receiver of a source that the server pushed.
    init(
        _ connection: any Connection, _ multiplexer: any Multiplexer, _ configuration: Client.Configuration,
        deadline: ContinuousClock.Instant?
    ) {
        self.multiplexer = multiplexer
        self.deadline = deadline
        name = ""
        dialChanged = nil
        frameReadTimeout = configuration.frameReadTimeout
        dialTimeout = configuration.dialTimeout
        onError = configuration.onError
        storage = Mutex(Storage(phase: .open(connection)))
    }

    /// Creates the receiver of a source that is dialled by its name.
    ///
    /// - Parameter onDialled: called once, when the server has answered the dial or the dial has failed.
    package init(
        _ name: String, _ multiplexer: any Multiplexer, _ configuration: Client.Configuration,
        deadline: ContinuousClock.Instant?, onDialled: @escaping @Sendable () -> Void
    ) {
        self.multiplexer = multiplexer
        self.deadline = deadline
        self.name = name
        dialChanged = Event()
        frameReadTimeout = configuration.frameReadTimeout
        dialTimeout = configuration.dialTimeout
        onError = configuration.onError
        storage = Mutex(Storage(phase: .waiting, onDialled: onDialled))
    }

    // MARK: - Dialling

    /// Dials the name, which was announced on `master`.
    ///
    /// Giving the source up does not stop the dial. A server keeps a source that no client dials until the accept
    /// timeout, but frees one that is dialled and closed at once.
    package func dial(from master: any Connection) {
        let deadline = (multiplexer.surroundings.now() + dialTimeout).orEarlier(deadline)
        do throws(ConnectionError) {
            if let connection = try multiplexer.dialNow(name, receivedFrom: master, delegate: self) {
                opening(connection, deadline)
                return
            }
        } catch {
            return arrived(.failed(error))
        }
        // No host offers the name yet. Its announcement may arrive later than the name.
        Task.immediate(executorPreference: multiplexer.surroundings.executor) {
            do {
                self.arrived(.open(try await multiplexer.dial(self.name, receivedFrom: master, deadline: deadline)))
            } catch {
                self.arrived(.failed(error))
            }
        }
    }

    private func opening(_ connection: any Connection, _ deadline: ContinuousClock.Instant) {
        let isAbandoned = storage.withLock { storage -> Bool in
            if case .waiting = storage.phase {
                storage.phase = .opening(connection, deadline: deadline)
                return false
            }
            storage.phase = .abandoned(connection)
            return true
        }
        if isAbandoned { limitWait(deadline) }
        if connection.isAnswered { connectionChanged() }
        dialChanged?.signal()
    }

    /// Closes an abandoned connection at its deadline if the server has not answered until then.
    private func limitWait(_ deadline: ContinuousClock.Instant) {
        _ = multiplexer.surroundings.schedule(deadline) { [weak self] in self?.closeIfAbandoned() }
    }

    private func closeIfAbandoned() {
        let abandoned = storage.withLock { storage -> (any Connection)? in
            guard case .abandoned(let connection) = storage.phase else { return nil }
            storage.phase = .ended
            return connection
        }
        abandoned?.close()
        if abandoned != nil { dialled() }
    }

    package func connectionChanged() {
        enum Step { case nothing, open(any Connection), close(any Connection) }
        let step = storage.withLock { storage -> Step in
            switch storage.phase {
            case .opening(let connection, _) where connection.isAnswered:
                storage.phase = .open(connection)
                return .open(connection)
            case .abandoned(let connection) where connection.isAnswered:
                storage.phase = .ended
                return .close(connection)
            case .waiting, .opening, .open, .abandoned, .failed, .ended: return .nothing
            }
        }
        switch step {
        case .nothing: return
        case .open(let connection): connection.setDelegate(nil)
        case .close(let connection): connection.close()
        }
        dialled()
    }

    private func arrived(_ phase: Phase) {
        let isWanted = storage.withLock { storage -> Bool in
            guard case .waiting = storage.phase else { return false }
            storage.phase = phase
            return true
        }
        if !isWanted, case .open(let connection) = phase { connection.close() }
        dialChanged?.signal()
        dialled()
    }

    private func dialled() {
        let onDialled = storage.withLock { $0.onDialled.take() }
        onDialled?()
    }

    /// Ends the source at client and server.
    package func cancel() {
        let before = storage.withLock { storage -> Phase in
            let before = storage.phase
            if case .opening(let connection, _) = before {
                storage.phase = .abandoned(connection)
            } else if case .abandoned = before {
                return before
            } else {
                storage.phase = .ended
            }
            return before
        }
        switch before {
        case .open(let connection): connection.close()
        case .opening(_, let deadline):
            limitWait(deadline)
            // The answer may have arrived between the change of phase and this call.
            connectionChanged()
        case .waiting: dialChanged?.signal()
        case .abandoned, .failed, .ended: break
        }
    }

    // MARK: - Reading

    /// The deadline for a frame that the consumer asks for now; `nil` for none.
    var frameDeadline: ContinuousClock.Instant? {
        frameReadTimeout.map { (multiplexer.surroundings.now() + $0).orEarlier(deadline) } ?? deadline
    }

    /// Reads the header of a pushed source. It is the first frame.
    nonisolated(nonsending) func readHeader(deadline: ContinuousClock.Instant?) async throws(ChanservError)
        -> ByteBuffer
    {
        var decoder = takeDecoder()
        decoder.decompresses = false
        do throws(ChanservError) {
            while true {
                if let header = try decoder.next() {
                    decoder.decompresses = true
                    keep(decoder)
                    return header
                }
                let received: ByteBuffer? =
                    switch takeBuffered() {
                    case .bytes(let bytes): bytes
                    case .ended: nil
                    case .nothing: try await read(deadline: deadline)
                    }
                guard let received else {
                    try decoder.finish()
                    throw ChanservError(.truncatedFrame, "the source ended before its header")
                }
                decoder.append(received)
            }
        } catch {
            keep(decoder)
            throw error
        }
    }

    func takeDecoder() -> FrameDecoder {
        storage.withLock { storage in
            let decoder = storage.decoder
            storage.decoder = FrameDecoder(decompresses: true)
            return decoder
        }
    }

    private func keep(_ decoder: consuming FrameDecoder) {
        let decoder = decoder
        storage.withLock { $0.decoder = decoder }
    }

    /// The result of ``takeBuffered()``.
    enum Buffered {
        case bytes(ByteBuffer)
        /// The server has ended the source.
        case ended
        /// No bytes are buffered, or the source failed. ``read(deadline:)`` waits, or throws the error.
        case nothing
    }

    /// Returns the buffered bytes without waiting. Closes the connection at the end of the source.
    ///
    /// Most reads find bytes. They call this function first because each asynchronous call allocates memory.
    func takeBuffered() -> Buffered {
        guard let connection = openConnection else { return .nothing }
        switch connection.take() {
        case .bytes(let bytes): return .bytes(bytes)
        case .finished:
            cancel()
            return .ended
        case .nothing, .failed: return .nothing
        }
    }

    /// The connection, if it is open.
    private var openConnection: (any Connection)? {
        storage.withLock { storage in
            if case .open(let connection) = storage.phase { connection } else { nil }
        }
    }

    /// Returns the next bytes and waits for them; `nil` at the end of the source. Closes the connection at the end.
    nonisolated(nonsending) func read(
        deadline: ContinuousClock.Instant?
    ) async throws(ChanservError) -> ByteBuffer? {
        do {
            let connection = if let open = openConnection { open } else { try await opened() }
            let bytes = try await connection.read(deadline: deadline)
            if bytes == nil { cancel() }
            return bytes
        } catch {
            throw explained(error)
        }
    }

    /// Appends `count` bytes to `buffer` and waits for them. Appends fewer at the end of the source, and closes the
    /// connection then.
    ///
    /// - Returns: the number of appended bytes.
    nonisolated(nonsending) func read(
        _ count: Int, into buffer: inout ByteBuffer, deadline: ContinuousClock.Instant?
    ) async throws(ChanservError) -> Int {
        do {
            let connection = if let open = openConnection { open } else { try await opened() }
            let appended = try await connection.read(count, into: &buffer, deadline: deadline)
            if appended < count { cancel() }
            return appended
        } catch {
            throw explained(error)
        }
    }

    private func explained(_ error: any Error) -> ChanservError {
        switch error {
        case is CancellationError:
            // The connection is unchanged. The caller decides whether to end it.
            ChanservError(.cancelled, "waiting for a frame", cause: error)
        case let error as ConnectionError where error.code == .deadlineExceeded:
            ChanservError(
                error,
                while: deadline.map { $0 <= multiplexer.surroundings.now() } ?? false
                    ? "the deadline of the request" : "frame read timeout")
        default:
            ChanservError(error, while: "reading a source")
        }
    }

    /// Gives the source up because of `error`, reports the error and returns it.
    func failed(_ error: ChanservError) -> ChanservError {
        cancel()
        if error.code != .cancelled { onError(error) }
        return error
    }

    /// Returns the connection and waits until it is open. If the waiting task is cancelled, the source is given up.
    nonisolated(nonsending) private func opened() async throws -> any Connection {
        while true {
            let phase = storage.withLock { $0.phase }
            switch phase {
            case .open(let connection): return connection
            case .failed(let error): throw ChanservError(error, while: "fetching the source \(name)")
            case .abandoned, .ended: throw ChanservError(.cancelled, "the source was cancelled")
            case .opening(let connection, let deadline): try await waitUntilOpen(connection, deadline)
            case .waiting:
                guard let dialChanged else { preconditionFailure("a pushed source waits for its dial") }
                if await dialChanged.wait() == .cancelled { cancel() }
            }
        }
    }

    nonisolated(nonsending) private func waitUntilOpen(
        _ connection: any Connection, _ deadline: ContinuousClock.Instant
    ) async throws {
        do {
            try await connection.opened(deadline: deadline)
            arrivedOpen(connection)
        } catch is CancellationError {
            cancel()
        } catch {
            connection.close()
            storage.withLock { storage in
                if case .opening = storage.phase { storage.phase = .failed(error) }
            }
            dialled()
        }
    }

    private func arrivedOpen(_ connection: any Connection) {
        storage.withLock { storage in
            if case .opening = storage.phase { storage.phase = .open(connection) }
        }
        connection.setDelegate(nil)
        dialled()
    }
}
