import NIOCore
import Synchronization

/// One source of a request at the server: its connection, once there is one, and the code that makes its frames.
package final class SourceScope: SourceOutput, ConnectionDelegate {
    private enum Stage {
        /// The client has not taken it.
        case waiting
        /// As `waiting`, and everything was sent.
        case sent
        case accepted
        case ended
    }

    private struct Inside: ~Copyable {
        var stage = Stage.waiting
        var connection: (any Connection)?
        var work: (any SourceWork)?
        /// The name under which the client fetches it, if it is not pushed.
        var binding: (any Binding)?
        var sentBytes = 0
        /// It waits until other sources of the request were taken.
        var isHeld = false
        /// The connection took no more.
        var isFull = false
        var writeDeadline: ContinuousClock.Instant?
        var servingDeadline: ContinuousClock.Instant?
    }

    let request: RequestScope
    private let addedAt: ContinuousClock.Instant
    private let inside: Mutex<Inside>
    /// Its place among the sources of the request. Unsafe for the compiler: it is used under the lock of the request only.
    nonisolated(unsafe) var index = 0

    init(_ request: RequestScope, _ connection: (any Connection)?) {
        self.request = request
        addedAt = request.now
        inside = Mutex(Inside(connection: connection))
    }

    func setWork(_ work: any SourceWork) {
        inside.withLock { $0.work = work }
    }

    private func resumeWork() {
        inside.withLock { $0.work }?.resume()
    }

    func setBinding(_ binding: any Binding) {
        inside.withLock { $0.binding = binding }
    }

    func send(header: ByteBuffer) {
        var batch = FrameBatch()
        do throws(ChanservError) {
            try batch.append(uncompressed: header)
            _ = write(batch.take())
        } catch {
            // The header is larger than a frame may be: the source fails at the client.
            finish(error)
        }
    }

    /// Lets the code make frames: at once if the source is pushed, or when the client has fetched it.
    package func start() {
        let connection = inside.withLock { $0.stage == .ended ? nil : $0.connection }
        guard let connection else { return }
        connection.setDelegate(self)
        if connection.isPeerGone || !connection.isOffered { return connectionChanged() }
        if !request.mayBegin {
            inside.withLock { $0.isHeld = true }
            return
        }
        resumeWork()
    }

    /// Other sources of the request were taken: this one may be begun.
    func release() {
        let wasHeld = inside.withLock { inside in
            defer { inside.isHeld = false }
            return inside.isHeld
        }
        if wasHeld { resumeWork() }
    }

    // MARK: - The client

    /// The client fetches the source by its name.
    func connected(_ connection: any Connection) -> Admission {
        let binding = inside.withLock { inside -> (any Binding)? in
            guard inside.stage == .waiting, inside.connection == nil else { return nil }
            inside.connection = connection
            return inside.binding.take()
        }
        guard let binding else { return .refused("the source was given up") }
        binding.close()
        connection.setDelegate(self)
        // Not here: the dial is still being taken.
        connection.callDelegateSoon()
        return .accepted
    }

    package func connectionChanged() {
        enum Step { case ignore, room, accepted, sentAndTaken, gone }
        let connection = inside.withLock { $0.stage == .ended ? nil : $0.connection }
        guard let connection else { return }
        let isOffered = connection.isOffered
        let isGone = connection.isPeerGone
        let step = inside.withLock { inside -> Step in
            switch inside.stage {
            case .ended: return .ignore
            case .sent:
                if isOffered { return .ignore }
                return connection.wasTaken ? .sentAndTaken : .gone
            case .waiting:
                if isGone { return .gone }
                if isOffered { return .room }
                inside.stage = .accepted
                inside.isHeld = false
                return .accepted
            case .accepted:
                if isGone { return .gone }
                inside.isFull = false
                inside.writeDeadline = nil
                return .room
            }
        }
        switch step {
        case .ignore: break
        case .room: resumeWork()
        case .accepted:
            if let timeout = request.configuration.servingTimeout {
                let deadline = request.now + timeout
                inside.withLock { $0.servingDeadline = deadline }
                request.note(deadline: deadline)
            }
            request.accepted(self)
            resumeWork()
        case .sentAndTaken:
            guard let end = end() else { return }
            request.ended(self, .well, wasAccepted: end.wasAccepted)
        case .gone:
            guard let end = end() else { return }
            end.connection?.close()
            request.ended(self, .neutral, wasAccepted: end.wasAccepted)
            end.work?.cancel()
        }
    }

    // MARK: - Frames

    package var encoding: SourceEncoding {
        let configuration = request.configuration
        let window = isAccepted ? Int.max : request.pushWindow
        return SourceEncoding(
            compression: configuration.compression, batchSize: min(configuration.batchSize, window))
    }

    package func write(_ batch: inout FrameBatch) -> SourceRoom {
        let (frames, bytes) = (batch.count, batch.byteCount)
        let isAccepted = self.isAccepted
        var room = SourceRoom.ended
        batch.takeParts { room = write($0) }
        if room != .ended { request.sent(frames: frames, bytes: bytes, isAccepted: isAccepted) }
        return room
    }

    package var room: SourceRoom { write(ByteBuffer()) }

    private func write(_ bytes: ByteBuffer) -> SourceRoom {
        let (connection, mayGoOn) = inside.withLock { inside -> ((any Connection)?, Bool) in
            guard inside.stage != .ended else { return (nil, false) }
            inside.sentBytes += bytes.readableBytes
            return (inside.connection, inside.stage == .accepted || !inside.isHeld)
        }
        guard let connection else { return isEnded ? .ended : .full }
        let hasRoom: Bool
        do throws(ConnectionError) {
            hasRoom = try connection.write(bytes)
        } catch {
            failed(error)
            return .ended
        }
        guard !hasRoom || !mayGoOn || isBeyondWindow else { return .free }
        if isAccepted, !hasRoom { noteFull() }
        return .full
    }

    /// What the client granted for a source that it has not taken is used up.
    private var isBeyondWindow: Bool {
        let window = request.pushWindow
        return inside.withLock { $0.stage == .waiting && $0.connection?.isOffered == true && $0.sentBytes >= window }
    }

    private func noteFull() {
        let timeout = request.configuration.frameWriteTimeout
        let deadline = timeout.map { request.now + $0 }
        let isNews = inside.withLock { inside -> Bool in
            let isNews = !inside.isFull
            inside.isFull = true
            if inside.writeDeadline == nil { inside.writeDeadline = deadline }
            return isNews
        }
        if isNews, let deadline { request.note(deadline: deadline) }
    }

    /// The connection failed while frames were written.
    private func failed(_ error: ConnectionError) {
        guard let end = end() else { return }
        let failure = ChanservError(error, while: "sending frames")
        if error.isPeersDoing {
            end.connection?.close()
            request.ended(self, .neutral, wasAccepted: end.wasAccepted)
        } else {
            end.connection?.fail(failure.description)
            request.configuration.onChanError(failure)
            request.ended(self, .failed(failure), wasAccepted: end.wasAccepted)
        }
        end.work?.cancel()
    }

    package func finish(_ error: (any Error)?) {
        if error == nil, let connection = sentAll() {
            // The client has to take it: until then it counts as a source that waits.
            connection.close()
            if !connection.isOffered { connectionChanged() }
            return
        }
        guard let end = end() else { return }
        guard let error else {
            end.connection?.close()
            return request.ended(self, .well, wasAccepted: end.wasAccepted)
        }
        let configuration = request.configuration
        let failure = ChanservError(.sourceFailed, "\(error)", cause: error)
        end.connection?.fail(configuration.errorText?(error) ?? failure.message)
        configuration.onChanError(failure)
        request.ended(
            self, SourceFuncError(error).counts ? .failed(failure) : .neutral, wasAccepted: end.wasAccepted)
    }

    /// Everything of a pushed source was sent before the client took it.
    ///
    /// - Returns: its connection, `nil` if it was taken, or has ended.
    private func sentAll() -> (any Connection)? {
        inside.withLock { inside in
            guard inside.stage == .waiting, let connection = inside.connection, connection.isOffered else { return nil }
            inside.stage = .sent
            inside.work = nil
            return connection
        }
    }

    // MARK: - Ends

    /// The request is cancelled.
    func cancel(_ cancellation: RequestState.Cancellation) {
        guard let end = end() else { return }
        switch cancellation {
        case .clientGone:
            if end.wasSent { end.connection?.abort("the request has ended") } else { end.connection?.close() }
        // What is queued goes: it may lie in memory of the code that is to end.
        case .stopped(let reason): end.connection?.abort(reason ?? "the server stopped serving the source")
        case .deadline(let what): end.connection?.abort(ChanservError(.deadlineExceeded, what).description)
        }
        request.ended(self, .neutral, wasAccepted: end.wasAccepted)
        end.work?.cancel()
    }

    /// A deadline of the source has passed.
    func expired(now: ContinuousClock.Instant) {
        let isLateWrite = inside.withLock { inside in inside.writeDeadline.map { $0 <= now } ?? false }
        guard let end = end() else { return }
        let timeout = request.configuration.chanAcceptTimeout
        let error = ChanservError(
            .deadlineExceeded,
            !end.wasAccepted
                ? "chan accept timeout: the client did not take the source in \(timeout)"
                : isLateWrite ? "sending frames: frame write timeout" : RequestScope.servingTimeout)
        end.connection?.abort(error.description)
        request.configuration.onChanError(error)
        request.ended(self, .neutral, wasAccepted: end.wasAccepted)
        end.work?.cancel()
    }

    /// The source was not added after all.
    func drop() {
        guard let end = end() else { return }
        end.connection?.close()
        end.work?.cancel()
    }

    /// What is left of a source that has ended.
    private struct Ended {
        var connection: (any Connection)?
        var work: (any SourceWork)?
        /// Whether the client had taken it.
        var wasAccepted: Bool
        /// Whether everything had been sent before.
        var wasSent: Bool
    }

    /// Ends the source, once; `nil` if it has ended already.
    private func end() -> Ended? {
        let (ended, binding) = inside.withLock { inside -> (Ended?, (any Binding)?) in
            guard inside.stage != .ended else { return (nil, nil) }
            let ended = Ended(
                connection: inside.connection.take(), work: inside.work.take(),
                wasAccepted: inside.stage == .accepted, wasSent: inside.stage == .sent)
            inside.stage = .ended
            return (ended, inside.binding.take())
        }
        binding?.close()
        return ended
    }

    // MARK: - State

    var isAccepted: Bool { inside.withLock { $0.stage == .accepted } }
    var isHeld: Bool { inside.withLock { $0.isHeld } }
    var isFull: Bool { inside.withLock { $0.isFull } }
    var sentBytes: Int { inside.withLock { $0.sentBytes } }
    private var isEnded: Bool { inside.withLock { $0.stage == .ended } }

    /// When the source is given up if nothing happens.
    ///
    /// - Parameter lastAccept: when a source of the request was taken last, which gives the others their time anew.
    func deadline(
        after lastAccept: ContinuousClock.Instant, _ configuration: Server.Configuration
    ) -> ContinuousClock.Instant? {
        inside.withLock { inside in
            switch inside.stage {
            case .waiting, .sent: return max(addedAt, lastAccept) + configuration.chanAcceptTimeout
            case .accepted:
                return [inside.writeDeadline, inside.servingDeadline].compactMap { $0 }.min()
            case .ended: return nil
            }
        }
    }
}

extension ConnectionError {
    /// Whether the peer, or the way to it, caused the error.
    var isPeersDoing: Bool {
        switch code {
        case .failedByPeer, .closedByPeer, .connectionLost, .deadlineExceeded, .protocolViolation: true
        default: false
        }
    }
}
