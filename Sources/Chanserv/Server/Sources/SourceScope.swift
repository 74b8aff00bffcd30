import NIOCore
import Synchronization

/// One source of a request at the server: its connection, once there is one, and the work that makes its frames.
package final class SourceScope: SourceOutput, ConnectionDelegate {
    private enum Stage {
        /// The client has not taken the source.
        case waiting
        /// All frames were sent, and the client has not accepted the source yet. Holds the end of the source.
        case sent(RequestState.End)
        case accepted
        case ended
    }

    private struct Storage: ~Copyable {
        var stage = Stage.waiting
        var connection: (any Connection)?
        var work: (any SourceWork)?
        /// The name under which the client dials the source; `nil` for a pushed source.
        var binding: (any Binding)?
        /// Bytes that were sent before the client accepted the source.
        var unacceptedBytes = 0
        /// Whether the pushed source waits until the request starts it.
        var isHeld = false
        /// Whether the source has started and has sent no frames yet. The request counts assumed bytes for it.
        var isStarting = false
        /// Whether the connection has no room.
        var isFull = false
        var writeDeadline: ContinuousClock.Instant?
        var servingDeadline: ContinuousClock.Instant?
    }

    let request: RequestScope
    private let window: Int
    private let addedAt: ContinuousClock.Instant
    private let storage: Mutex<Storage>
    /// The index among the sources of the request. `nonisolated(unsafe)`: it is used only under the lock of the
    /// request.
    nonisolated(unsafe) var index = 0

    /// - Parameters:
    ///   - connection: the connection of a pushed source; `nil` for a source that the client dials.
    ///   - window: maximum bytes that a pushed source may send before the client accepts it.
    init(_ request: RequestScope, _ connection: (any Connection)?, window: Int) {
        self.request = request
        self.window = window
        addedAt = request.now
        storage = Mutex(Storage(connection: connection, isHeld: connection != nil))
    }

    /// Sets the work that makes the frames.
    ///
    /// - Returns: whether the source is still open.
    func setWork(_ work: any SourceWork) -> Bool {
        storage.withLock { storage in
            if case .ended = storage.stage { return false }
            storage.work = work
            return true
        }
    }

    private func resumeWork() {
        storage.withLock { $0.work }?.resume()
    }

    func setBinding(_ binding: any Binding) {
        storage.withLock { $0.binding = binding }
    }

    /// Sends the header of a pushed source, encoded as a frame.
    func send(header: consuming ByteBuffer) {
        // The result is not needed: if the source has ended, its end was already handled.
        _ = write(header)
    }

    /// Lets the work make frames: soon if the source is pushed, or when the client has dialled it.
    package func start() {
        let connection = storage.withLock { $0.connection }
        guard let connection else { return }
        connection.setDelegate(self)
        let progress = connection.progress
        if progress.isPeerClosed || !progress.isUnaccepted { return connectionChanged() }
        request.startOrQueue(self)
    }

    /// Starts the source. The request has counted assumed bytes for its first frames.
    ///
    /// - Returns: whether the source started; if not, the request takes the assumed bytes back.
    func startHeld() -> Bool {
        let begins = storage.withLock { storage in
            guard storage.isHeld, case .waiting = storage.stage else { return false }
            storage.isHeld = false
            storage.isStarting = true
            return true
        }
        if begins { resumeWork() }
        return begins
    }

    // MARK: - The client

    /// Handles the client's dial of the source's name.
    func connected(_ connection: any Connection) -> DialAnswer {
        let binding = storage.withLock { storage -> (any Binding)? in
            guard case .waiting = storage.stage, storage.connection == nil else { return nil }
            storage.connection = connection
            return storage.binding.take()
        }
        guard let binding else { return .refused("the source was given up") }
        binding.close()
        connection.setDelegate(self)
        // Not called directly, because the dial is still being handled.
        connection.callDelegateSoon()
        return .accepted
    }

    package func connectionChanged() {
        enum Step { case ignore, room, accepted, acceptedAfterSent(RequestState.End), gone }
        let connection = storage.withLock { $0.connection }
        guard let connection else { return }
        let progress = connection.progress
        let step = storage.withLock { storage -> Step in
            switch storage.stage {
            case .ended: return .ignore
            case .sent(let outcome):
                if progress.isUnaccepted { return .ignore }
                return progress.wasAccepted ? .acceptedAfterSent(outcome) : .gone
            case .waiting:
                if progress.isPeerClosed { return .gone }
                if progress.isUnaccepted { return storage.isHeld ? .ignore : .room }
                storage.stage = .accepted
                storage.isHeld = false
                return .accepted
            case .accepted:
                if progress.isPeerClosed { return .gone }
                storage.isFull = false
                storage.writeDeadline = nil
                return .room
            }
        }
        switch step {
        case .ignore: break
        case .room: resumeWork()
        case .accepted:
            if let timeout = request.revision.configuration.servingTimeout {
                let deadline = request.now + timeout
                storage.withLock { $0.servingDeadline = deadline }
                request.note(deadline: deadline)
            }
            request.accepted(self)
            resumeWork()
        case .acceptedAfterSent(let outcome):
            guard var end = end() else { return }
            end.acceptedAfterSent = true
            request.ended(self, outcome, end)
        case .gone:
            guard let end = end() else { return }
            // A client that has not answered the push may never do so. Dropping the queued bytes frees the stream.
            if progress.isUnaccepted { connection.abort("the client has ended the source") } else { connection.close() }
            request.ended(self, end.failure, end)
            end.work?.cancel()
        }
    }

    // MARK: - Frames

    package var encoding: SourceEncoding {
        let revision = request.revision
        let window = isAccepted ? Int.max : window
        return SourceEncoding(
            compression: revision.configuration.compression, batchSize: min(revision.configuration.batchSize, window))
    }

    package func write(_ batch: inout FrameBatch) -> SourceRoom {
        let (frames, bytes) = (batch.count, batch.byteCount)
        var room = SourceRoom.ended
        batch.takeParts { room = write($0) }
        if room != .ended { request.sent(frames: frames, bytes: bytes) }
        firstFramesSent()
        return room
    }

    package var room: SourceRoom { write(ByteBuffer()) }

    private func write(_ bytes: ByteBuffer) -> SourceRoom {
        enum Step {
            case ended, notFetched, accepted(any Connection)
            /// `isUsedUp`: the source has sent its window and the client has not accepted it.
            case unaccepted(any Connection, isStarted: Bool, isUsedUp: Bool)
        }
        let step = storage.withLock { storage -> Step in
            switch storage.stage {
            case .ended, .sent: return .ended
            case .accepted:
                guard let connection = storage.connection else { return .ended }
                return .accepted(connection)
            case .waiting:
                guard let connection = storage.connection else { return .notFetched }
                storage.unacceptedBytes += bytes.readableBytes
                return .unaccepted(connection, isStarted: !storage.isHeld, isUsedUp: storage.unacceptedBytes >= window)
            }
        }
        let connection: any Connection
        var isStarted = true
        var isUsedUp = false
        switch step {
        case .ended: return .ended
        case .notFetched: return .full
        case .accepted(let accepted): connection = accepted
        case .unaccepted(let unaccepted, let started, let used):
            connection = unaccepted
            isStarted = started
            isUsedUp = used
            if bytes.readableBytes > 0 { request.countUnaccepted(bytes: bytes.readableBytes) }
        }
        let hasCapacity: Bool
        do throws(ConnectionError) {
            hasCapacity = try connection.write(bytes)
        } catch {
            failed(error)
            return .ended
        }
        guard !hasCapacity || !isStarted || isUsedUp && connection.progress.isUnaccepted else { return .free }
        guard isAccepted, !hasCapacity else { return .full }
        noteFull()
        // Room that became free before the fact was recorded was already reported. Without this check the source would
        // wait forever.
        do throws(ConnectionError) {
            guard try connection.write(ByteBuffer()) else { return .full }
        } catch {
            failed(error)
            return .ended
        }
        noteRoom()
        return .free
    }

    private func noteRoom() {
        storage.withLock { storage in
            storage.isFull = false
            storage.writeDeadline = nil
        }
    }

    private func noteFull() {
        let timeout = request.revision.configuration.frameWriteTimeout
        let deadline = timeout.map { request.now + $0 }
        let isFirst = storage.withLock { storage -> Bool in
            let isFirst = !storage.isFull
            storage.isFull = true
            if storage.writeDeadline == nil { storage.writeDeadline = deadline }
            return isFirst
        }
        if isFirst, let deadline { request.note(deadline: deadline) }
    }

    /// Ends the source because writing to its connection failed.
    private func failed(_ error: ConnectionError) {
        guard let end = end() else { return }
        let failure = ChanservError(error, while: "sending frames")
        if error.isPeersDoing {
            end.connection?.close()
            request.ended(self, .neutral, end)
        } else {
            if let connection = end.connection { request.fail(connection, failure.description) }
            report(failure)
            request.ended(self, .failed(failure), end)
        }
        end.work?.cancel()
    }

    package func finish(_ error: (any Error)?) {
        var outcome = RequestState.End.well
        var failure: ChanservError?
        if let error {
            let sourceFailed = ChanservError(.sourceFailed, "\(error)", cause: error)
            failure = sourceFailed
            outcome = SourceFuncError(error).counts ? .failed(sourceFailed) : .neutral
        }
        let revision = request.revision
        let text = failure.map { failure in
            failure.cause.flatMap { revision.configuration.errorText?($0) } ?? failure.message
        }
        if let connection = sentAll(outcome) {
            // Until the client accepts it, it counts as an unaccepted source.
            if let text { request.fail(connection, text) } else { connection.close() }
            if let failure { report(failure) }
            firstFramesSent()
            if !connection.progress.isUnaccepted { connectionChanged() }
            return
        }
        guard var end = end(unlessSent: true) else { return }
        // The client accepted the source, but ``connectionChanged()`` has not handled that yet.
        end.acceptedAfterSent = !end.countedAsAccepted && end.connection?.progress.wasAccepted == true
        if let connection = end.connection {
            if let text { request.fail(connection, text) } else { connection.close() }
        }
        if let failure { report(failure) }
        request.ended(self, outcome, end)
    }

    private func report(_ failure: ChanservError) {
        request.note(failure)
        request.revision.configuration.onChanError(failure)
    }

    /// Records that all frames of a pushed source were sent before the client accepted it.
    ///
    /// - Returns: its connection; `nil` if the client accepted the source, or it has ended.
    private func sentAll(_ outcome: RequestState.End) -> (any Connection)? {
        let connection = storage.withLock { storage -> (any Connection)? in
            guard case .waiting = storage.stage else { return nil }
            return storage.connection
        }
        guard let connection, connection.progress.isUnaccepted else { return nil }
        return storage.withLock { storage in
            guard case .waiting = storage.stage else { return nil }
            storage.stage = .sent(outcome)
            storage.work = nil
            return connection
        }
    }

    /// Records that the source has sent its first frames, or all that it may send before it is accepted.
    private func firstFramesSent() {
        let wasStarting = storage.withLock { storage in
            defer { storage.isStarting = false }
            return storage.isStarting
        }
        if wasStarting { request.firstFramesSent() }
    }

    // MARK: - Ends

    /// Ends the source because the request is cancelled.
    func cancel(_ cancellation: RequestState.Cancellation) {
        guard let end = end() else { return }
        switch cancellation {
        // Aborted, not closed: a client that has not answered the push may never do so, and the queued bytes would
        // stay.
        case .clientGone: end.connection?.abort("the request has ended")
        // The queued bytes are dropped because they may lie in memory of the work that is being cancelled.
        case .stopped(let reason): end.connection?.abort(reason ?? "the server stopped serving the source")
        case .deadline(let what): end.connection?.abort(ChanservError(.deadlineExceeded, what).description)
        }
        request.ended(self, end.failure, end)
        end.work?.cancel()
    }

    /// Ends the source because one of its deadlines has passed.
    func expired(now: ContinuousClock.Instant) {
        let isLateWrite = storage.withLock { storage in storage.writeDeadline.map { $0 <= now } ?? false }
        guard let end = end() else { return }
        let timeout = request.revision.configuration.chanAcceptTimeout
        let error = ChanservError(
            .deadlineExceeded,
            !end.countedAsAccepted
                ? "chan accept timeout: the client did not accept the source in \(timeout.notation)"
                : isLateWrite ? "sending frames: frame write timeout" : RequestScope.servingTimeout)
        end.connection?.abort(error.description)
        report(error)
        request.ended(self, end.failure, end)
        end.work?.cancel()
    }

    /// Ends a source that was not added to the request after all.
    func drop() {
        guard let end = end() else { return }
        end.connection?.abort("the request has ended")
        end.work?.cancel()
    }

    /// The remains of a source that has ended.
    struct Ended {
        fileprivate var connection: (any Connection)?
        fileprivate var work: (any SourceWork)?
        /// Whether the client accepted the source, and the request was informed of that.
        var countedAsAccepted: Bool
        /// Whether the client accepted the source after everything had been sent. This restarts the accept timeout of
        /// the other sources.
        var acceptedAfterSent = false
        /// Whether everything had been sent before the end.
        fileprivate var wasSent: Bool
        /// The failure of the source before the client accepted it; otherwise neutral.
        fileprivate var failure = RequestState.End.neutral
        /// Bytes that were sent before the client accepted the source and that the request still counts.
        var unacceptedBytes: Int
        /// Whether the request still counts assumed bytes for the source.
        var wasStarting: Bool
    }

    /// Ends the source once; `nil` if it has already ended.
    ///
    /// - Parameter unlessSent: whether a source that was sent in full and is not accepted goes on. Default `false`.
    private func end(unlessSent: Bool = false) -> Ended? {
        let (ended, binding) = storage.withLock { storage -> (Ended?, (any Binding)?) in
            var ended = Ended(
                connection: nil, work: nil, countedAsAccepted: false, wasSent: false,
                unacceptedBytes: storage.unacceptedBytes,
                wasStarting: storage.isStarting)
            switch storage.stage {
            case .ended: return (nil, nil)
            case .waiting: break
            case .accepted: ended.countedAsAccepted = true
            case .sent where unlessSent: return (nil, nil)
            case .sent(let outcome):
                ended.wasSent = true
                if case .failed = outcome { ended.failure = outcome }
            }
            ended.connection = storage.connection.take()
            ended.work = storage.work.take()
            storage.stage = .ended
            storage.isHeld = false
            storage.isStarting = false
            storage.unacceptedBytes = 0
            return (ended, storage.binding.take())
        }
        binding?.close()
        return ended
    }

    // MARK: - State

    /// Whether the client has accepted the source, even if ``connectionChanged()`` has not handled that yet.
    var isAcceptedByPeer: Bool {
        let (isAccepted, connection) = storage.withLock { storage -> (Bool, (any Connection)?) in
            switch storage.stage {
            case .accepted: (true, nil)
            case .waiting, .sent: (false, storage.connection)
            case .ended: (false, nil)
            }
        }
        guard let connection else { return isAccepted }
        let progress = connection.progress
        return !progress.isUnaccepted && !progress.isPeerClosed
    }

    /// Returns and resets the bytes that the request counts for the unaccepted source.
    func takeUnacceptedCounts() -> (bytes: Int, wasStarting: Bool) {
        storage.withLock { storage in
            defer {
                storage.unacceptedBytes = 0
                storage.isStarting = false
            }
            return (storage.unacceptedBytes, storage.isStarting)
        }
    }

    private var isAccepted: Bool {
        storage.withLock { storage in
            if case .accepted = storage.stage { true } else { false }
        }
    }
    var isFull: Bool { storage.withLock { $0.isFull } }

    /// The time at which the source is ended if nothing happens.
    ///
    /// - Parameters:
    ///   - lastAccept: the time at which the client last accepted a source of the request. It restarts the accept
    ///     timeout of the others.
    ///   - acceptTimeout: maximum time until the client accepts the source.
    func deadline(
        after lastAccept: ContinuousClock.Instant, acceptTimeout: Duration
    ) -> ContinuousClock.Instant? {
        storage.withLock { storage in
            switch storage.stage {
            case .waiting, .sent: return max(addedAt, lastAccept) + acceptTimeout
            case .accepted:
                return earlier(storage.writeDeadline, storage.servingDeadline)
            case .ended: return nil
            }
        }
    }
}

extension ConnectionError {
    /// Whether the peer, or the link to it, caused the error. `closed` is included: it means that the local network was
    /// shut down, because a source that ended its connection does not write to it again.
    var isPeersDoing: Bool {
        switch code {
        case .failedByPeer, .closedByPeer, .connectionLost, .deadlineExceeded, .protocolViolation, .closed: true
        default: false
        }
    }
}
