internal import Chanserv
internal import ChanservAstraNet
internal import NIOCore
internal import Synchronization

/// Passes one request on to a worker: its body goes there, and the sources that the worker pushes go on to the client as they
/// are. It looks at headers, ends and the boundaries of frames, and decodes no frame.
///
/// It has no task. Its turns run on the thread of whichever network brings something.
final class WorkerRelay: RequestWork, ConnectionDelegate {
    private struct State: ~Copyable {
        var turns = TurnState()
        var connection: (any Connection)?
        /// A source that the worker pushed and that is not added to the client's request yet.
        var pending: RelayedSource?
        /// The listing, and the sources that have not ended.
        var open = 1
        var isListingOver = false
        /// The worker failed the request, or is gone: nothing more is taken of it while the reason is found out.
        var isLost = false

        /// There was no room for a source, or its header has not come.
        ///
        /// - Returns: whether it will be added later.
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

    /// - Parameter onEnd: called once, when nothing of the request is open in the worker any more.
    init(
        _ scope: RequestScope, to process: WorkerProcess, plugin: String, onEnd: @escaping @Sendable () -> Void
    ) {
        self.scope = scope
        self.process = process
        self.plugin = plugin
        self.onEnd = onEnd
    }

    /// How many sources the worker may push ahead of the client's request.
    private static let pushedAhead = 64
    /// How long a dial of the worker may take.
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
        // The worker has not said yet that it offers the name, or the body is large.
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
            switch connection.takeNews() {
            case .nothing: return
            case .pushed(let pushed):
                let isWanted = state.withLock { state in
                    if !state.isListingOver { state.open += 1 }
                    return !state.isListingOver
                }
                guard isWanted else { return pushed.close() }
                putBack(RelayedSource(pushed, of: self))
            case .bytes: return lost(ChanservError(.wrongAnnouncement, "the worker names its sources"))
            case .finished:
                connection.releaseGrant()
                return endListing { scope.finish(nil) }
            case .failed(let error):
                return lost(ChanservError(error, while: "waiting for a source of the worker"))
            }
        }
    }

    /// Adds a source to the client's request once its header is there. Without a header there is nothing to announce, and so the
    /// request fails.
    ///
    /// - Returns: whether it was added.
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
        case .noRoom:
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

    /// A source is added later, unless the request was cancelled meanwhile.
    private func putBack(_ source: RelayedSource) {
        if !state.withLock({ $0.putBack(source) }) { source.cancel() }
    }

    // MARK: - Ends

    /// The header of a pending source came, or cannot come.
    func headerChanged() { turn() }

    /// A source has ended.
    func sourceEnded() {
        let isOver = state.withLock { state in
            state.open -= 1
            return state.open == 0
        }
        if isOver { released() }
    }

    /// No more sources come. Repeating it does nothing.
    ///
    /// - Parameter tell: tells the client's request.
    private func endListing(_ tell: () -> Void) {
        let (connection, pending, isNews) = state.withLock { state in
            defer { state.isListingOver = true }
            return (state.connection.take(), state.pending.take(), !state.isListingOver)
        }
        guard isNews else { return }
        pending?.cancel()
        connection?.close()
        tell()
        sourceEnded()
    }

    private func released() {
        onEnd()
        scope.released()
    }

    private func failed(_ error: any Error) { endListing { scope.finish(error) } }

    /// The worker failed the request, or cannot be reached.
    private func lost(_ error: ChanservError) {
        let isNews = state.withLock { state in
            defer { state.isLost = true }
            return !state.isLost && !state.isListingOver
        }
        guard isNews else { return }
        explain(error) { self.failed($0) }
    }

    /// Finds out what an error of the worker means. At once if the plugin reported it; if the process has ended, when its end
    /// is known.
    func explain(_ error: ChanservError, then: @escaping @Sendable (any Error) -> Void) {
        if let cause = error.cause as? ConnectionError, cause.code == .failedByPeer {
            return then(ErrorEnvelope.error(from: cause.message))
        }
        Task { then(await self.process.explain(error, plugin: self.plugin)) }
    }
}

/// One source of a worker on its way to the client.
final class RelayedSource: SourceWork, ConnectionDelegate {
    fileprivate struct State: ~Copyable {
        var turns = TurnState()
        var connection: (any Connection)?
        var output: (any SourceOutput)?
        /// Reads the header; `nil` when it is there.
        var decoder: FrameDecoder? = FrameDecoder(decompresses: false)
        var header: ByteBuffer?
        /// Bytes that came behind the header.
        var rest = ByteBuffer()
        var walk = FrameWalk()
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

    /// Returns the header if it is there.
    ///
    /// - Throws: why it will not come.
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
        let isNews = state.withLock { state in
            defer { state.isOver = true }
            state.connection = nil
            state.output = nil
            return !state.isOver
        }
        if isNews { relay.sourceEnded() }
    }
}

extension RelayedSource.State {
    /// Takes bytes of the header, and keeps what comes behind it.
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

/// An envelope as the one frame of a request.
private struct EnvelopeFrame: Frame {
    let envelope: RequestEnvelope

    init(_ envelope: RequestEnvelope) { self.envelope = envelope }

    func write(into buffer: inout ByteBuffer) { envelope.write(into: &buffer) }
}

extension WorkerProcess {
    /// What an error on the way to it, or from it, means.
    fileprivate func explain(_ error: ChanservError, plugin: String) async -> any Error {
        switch error.code {
        case .connectionLost, .notFound, .cancelled, .truncatedFrame, .refused:
            guard let reason = await reasonForEnd(within: .milliseconds(500)) else {
                return PluginError(.internal, "plugin \(plugin) does not answer: its process \(id) cannot be reached")
            }
            return PluginError(.crashed, "plugin \(plugin) ended: \(reason)")
        case .deadlineExceeded:
            return PluginError(.internal, "plugin \(plugin): its process \(id) did not answer in time")
        default:
            return PluginError(.internal, "plugin \(plugin): \(error)")
        }
    }
}
