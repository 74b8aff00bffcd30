internal import Chanserv
internal import ChanservAstraNet
internal import HostConfiguration
internal import NIOCore
internal import PluginRuntime
internal import Synchronization

/// Relay of one request to a worker. It sends the body to the worker, and copies the sources that the worker pushes to
/// the client. It examines headers, ends and the boundaries of frames, and decodes no frame.
///
/// It has no task. Its turns run on the thread that delivers an event from either connection.
final class WorkerRelay: RequestWork, ConnectionDelegate {
    private struct State: ~Copyable {
        var turns = TurnState()
        var connection: (any Connection)?
        /// Source that the worker pushed and that is not added to the client's request yet.
        var pending: RelayedSource?
        /// Number of open parts: the listing, and the sources that have not ended.
        var open = 1
        var isListingOver = false
        /// Whether the worker failed the request or is lost. Events of the worker are then ignored while the reason is
        /// determined.
        var isLost = false

        /// Puts back a source that the request does not take yet, or whose header has not arrived.
        ///
        /// - Returns: whether the source is added later.
        mutating func putBack(_ source: RelayedSource) -> Bool {
            if !isListingOver { pending = source }
            return !isListingOver
        }
    }

    let scope: RequestScope
    let process: WorkerProcess
    let plugin: String
    private let onEnd: @Sendable () -> Void
    private let state = Mutex(State())

    /// - Parameter onEnd: called once, when no part of the request is open in the worker.
    init(
        _ scope: RequestScope, to process: WorkerProcess, plugin: String, onEnd: @escaping @Sendable () -> Void
    ) {
        self.scope = scope
        self.process = process
        self.plugin = plugin
        self.onEnd = onEnd
    }

    /// Maximum number of sources that the worker may push before the client's request takes them.
    private static let pushedAhead = 64
    /// Timeout of a dial to the worker.
    private static let dialTimeout = Duration.seconds(10)

    func start(_ request: Request, options: RouteOptions) {
        let envelope = RequestEnvelope(request)
        var batch = FrameBatch()
        let dial: DialOptions
        do throws(ChanservError) {
            try batch.append(EnvelopeFrame(envelope))
            dial = DialOptions(first: batch.take(), maximumPushedSources: Self.pushedAhead)
        } catch {
            return failed(PluginError(.badRequest, "\(error)"))
        }
        guard scope.attach(self) else { return endListing {} }
        let name = process.name(for: options)
        do throws(ConnectionError) {
            if dial.first.readableBytes <= 32_768,
                let connection = try process.multiplexer.requestNow(name, dial, delegate: self)
            {
                return opened(connection)
            }
        } catch {
            return lost(ChanservError(error, while: "reaching the worker"))
        }
        // The worker has not announced the name yet, or the body is large.
        Task { await dialSlowly(name, dial) }
    }

    private func dialSlowly(_ name: String, _ dial: DialOptions) async {
        do {
            let (connection, isSent) = try await process.multiplexer.dial(
                name, dial, deadline: .now + Self.dialTimeout)
            opened(connection)
            connection.setDelegate(self)
            if !isSent, try !connection.write(dial.first) { try await connection.waitForRoom(deadline: nil) }
            turn()
        } catch {
            lost(ChanservError(error, while: "reaching the worker"))
        }
    }

    private func opened(_ connection: any Connection) {
        let isWanted = state.withLock { state in
            guard !state.isListingOver else { return false }
            state.connection = connection
            return true
        }
        if isWanted { turn() } else { connection.close() }
    }

    // MARK: - Events

    func connectionChanged() { turn() }

    func resume() { turn() }

    func cancel() { endListing {} }

    private func turn() {
        guard state.withLock({ $0.turns.request() }) == .schedule else { return }
        repeat {
            state.withLock { $0.turns.begin() }
            takeTurn()
        } while state.withLock({ $0.turns.end(wantsMore: false) }) == .schedule
    }

    private func takeTurn() {
        while let connection = state.withLock({ $0.isLost ? nil : $0.connection }) {
            if let pending = state.withLock({ $0.pending.take() }) {
                guard add(pending) else { return }
                continue
            }
            switch connection.takeEvent() {
            case .nothing: return
            case .pushed(let pushed):
                let isWanted = state.withLock { state in
                    if !state.isListingOver { state.open += 1 }
                    return !state.isListingOver
                }
                guard isWanted else { return pushed.close() }
                putBack(RelayedSource(pushed, of: self))
            case .bytes: return lost(ChanservError(.wrongAnnouncement, "the worker sent a named source"))
            case .finished:
                connection.releaseGrant()
                return endListing { scope.finish(nil) }
            case .failed(let error):
                return lost(ChanservError(error, while: "waiting for a source of the worker"))
            }
        }
    }

    /// Adds a source to the client's request once its header is complete. A source that ends without a header cannot be
    /// announced, so the request fails then.
    ///
    /// - Returns: whether the source was added.
    private func add(_ source: RelayedSource) -> Bool {
        let header: ByteBuffer
        do throws(ChanservError) {
            guard let whole = try source.readHeader() else {
                putBack(source)
                return false
            }
            header = whole
        } catch {
            source.cancel()
            lost(error)
            return false
        }
        let added = scope.add(header: header) { output in
            source.setOutput(output)
            return source
        }
        switch added {
        case .grantExhausted:
            putBack(source)
            return false
        case .ended:
            source.cancel()
            cancel()
            return false
        case .added(let output):
            output.start()
            return true
        }
    }

    /// Keeps a source for a later turn, unless the request was cancelled.
    private func putBack(_ source: RelayedSource) {
        if !state.withLock({ $0.putBack(source) }) { source.cancel() }
    }

    // MARK: - Ends

    /// Handles the arrival of a pending source's header, or its failure.
    func headerChanged() { turn() }

    /// Records the end of a source.
    func sourceEnded() {
        let isOver = state.withLock { state in
            state.open -= 1
            return state.open == 0
        }
        if isOver { released() }
    }

    /// Ends the listing. Repeated calls have no effect.
    ///
    /// - Parameter notify: reports the end to the client's request. Called only by the first call.
    private func endListing(_ notify: () -> Void) {
        let (connection, pending, isFirst) = state.withLock { state in
            defer { state.isListingOver = true }
            return (state.connection.take(), state.pending.take(), !state.isListingOver)
        }
        guard isFirst else { return }
        pending?.cancel()
        connection?.close()
        notify()
        sourceEnded()
    }

    private func released() {
        onEnd()
        scope.handlerFinished()
    }

    private func failed(_ error: any Error) { endListing { scope.finish(error) } }

    /// Handles a failure of the request in the worker, or the loss of the worker.
    private func lost(_ error: ChanservError) {
        let isFirst = state.withLock { state in
            defer { state.isLost = true }
            return !state.isLost && !state.isListingOver
        }
        guard isFirst else { return }
        explain(error) { self.failed($0) }
    }

    /// Translates an error of the worker for the client. Calls `then` at once if the plugin reported the error, and
    /// otherwise when the state of the process is known.
    func explain(_ error: ChanservError, then: @escaping @Sendable (any Error) -> Void) {
        if let cause = error.cause as? ConnectionError, cause.code == .failedByPeer {
            return then(ErrorEnvelope.error(from: cause.message))
        }
        Task { then(await self.process.explain(error, plugin: self.plugin)) }
    }
}

/// Source of a worker that is relayed to the client.
final class RelayedSource: SourceWork, ConnectionDelegate {
    fileprivate struct State: ~Copyable {
        var turns = TurnState()
        var connection: (any Connection)?
        var output: (any SourceOutput)?
        /// Decoder for the header; `nil` after the header.
        var decoder: FrameDecoder? = FrameDecoder(decompresses: false)
        var header: ByteBuffer?
        /// Bytes that followed the header.
        var rest = ByteBuffer()
        var walk = FrameBoundaries()
        var isOver = false
    }

    private let relay: WorkerRelay
    private let state: Mutex<State>

    init(_ connection: any Connection, of relay: WorkerRelay) {
        self.relay = relay
        state = Mutex(State(connection: connection))
        connection.setDelegate(self)
    }

    func setOutput(_ output: any SourceOutput) {
        state.withLock { $0.output = output }
    }

    // MARK: - Header

    /// Returns the header if it is complete.
    ///
    /// - Throws: the reason why the header cannot arrive.
    func readHeader() throws(ChanservError) -> ByteBuffer? {
        while true {
            if let header = state.withLock({ $0.header }) { return header }
            guard let connection = state.withLock({ $0.connection }) else { return nil }
            switch connection.take() {
            case .nothing: return nil
            case .bytes(let bytes):
                let result = state.withLock { $0.append(bytes) }
                try result.get()
            case .finished: throw ChanservError(.truncatedFrame, "the source ended before its header")
            case .failed(let error): throw ChanservError(error, while: "reading a source's header")
            }
        }
    }

    // MARK: - Events

    func connectionChanged() {
        if state.withLock({ $0.output == nil }) { relay.headerChanged() } else { turn() }
    }

    func resume() { turn() }

    func cancel() {
        let connection = state.withLock { state in
            state.output = nil
            return state.connection.take()
        }
        connection?.close()
        ended()
    }

    private func turn() {
        guard state.withLock({ $0.turns.request() }) == .schedule else { return }
        repeat {
            state.withLock { $0.turns.begin() }
            takeTurn()
        } while state.withLock({ $0.turns.end(wantsMore: false) }) == .schedule
    }

    private func takeTurn() {
        guard let output = state.withLock({ $0.output }) else { return }
        while let connection = state.withLock({ $0.connection }), output.room == .free {
            let rest = state.withLock { state in
                var rest = ByteBuffer()
                swap(&rest, &state.rest)
                return rest
            }
            let bytes: ByteBuffer
            if rest.readableBytes > 0 {
                bytes = rest
            } else {
                switch connection.take() {
                case .nothing: return
                case .bytes(let more): bytes = more
                case .finished:
                    guard state.withLock({ $0.walk.isBetweenFrames }) else {
                        return failed(
                            ChanservError(.truncatedFrame, "the stream ended in the middle of a frame"), output)
                    }
                    connection.close()
                    output.finish(nil)
                    return ended()
                case .failed(let error):
                    return failed(ChanservError(error, while: "reading a source of the worker"), output)
                }
            }
            do throws(ChanservError) {
                let frames = try state.withLock { $0.count(bytes) }.get()
                var batch = FrameBatch()
                batch.adopt(bytes, frames: frames)
                if output.write(&batch) != .free { return }
            } catch {
                return failed(error, output)
            }
        }
    }

    private func failed(_ error: ChanservError, _ output: any SourceOutput) {
        let connection = state.withLock { state in
            state.output = nil
            return state.connection.take()
        }
        connection?.close()
        relay.explain(error) { explained in
            output.finish(explained)
            self.ended()
        }
    }

    private func ended() {
        let isFirst = state.withLock { state in
            defer { state.isOver = true }
            state.connection = nil
            state.output = nil
            return !state.isOver
        }
        if isFirst { relay.sourceEnded() }
    }
}

extension RelayedSource.State {
    /// Appends bytes of the header, and keeps the bytes that follow it.
    fileprivate mutating func append(_ bytes: ByteBuffer) -> Result<Void, ChanservError> {
        decoder?.append(bytes)
        do throws(ChanservError) {
            guard let header = try decoder?.next() else { return .success(()) }
            self.header = header
            rest = decoder?.takeRest() ?? ByteBuffer()
            decoder = nil
            return .success(())
        } catch {
            return .failure(error)
        }
    }

    fileprivate mutating func count(_ bytes: ByteBuffer) -> Result<Int, ChanservError> {
        do throws(ChanservError) { return .success(try walk.ends(in: bytes)) } catch { return .failure(error) }
    }
}

/// Envelope as the single frame of a request.
private struct EnvelopeFrame: Frame {
    let envelope: RequestEnvelope

    init(_ envelope: RequestEnvelope) { self.envelope = envelope }

    func write(into buffer: inout ByteBuffer) { envelope.write(into: &buffer) }
}

extension WorkerProcess {
    /// Translates a transport error of this worker, with the reason of its end if it has ended.
    fileprivate func explain(_ error: ChanservError, plugin: String) async -> any Error {
        switch error.code {
        case .connectionLost, .notFound, .cancelled, .truncatedFrame, .refused:
            guard let reason = await reasonForEnd(within: .milliseconds(500)) else {
                return PluginError(.internal, "plugin \(plugin): its process \(id) cannot be reached")
            }
            return PluginError(.crashed, "plugin \(plugin) ended: \(reason)")
        case .deadlineExceeded:
            return PluginError(.internal, "plugin \(plugin): its process \(id) did not answer in time")
        default:
            return PluginError(.internal, "plugin \(plugin): \(error)")
        }
    }
}
