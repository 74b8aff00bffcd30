package import NIOCore
import Synchronization

/// One request at the server, from its dial to its last byte: connection, body, context, sources, counters, deadlines,
/// the error-mass ticket and the reason of a cancellation.
///
/// ``RequestState`` makes the decisions; this type performs them. Only an asynchronous handler starts tasks.
package final class RequestScope: ConnectionDelegate {
    /// Unique among the requests of this process.
    package let id: UInt64
    package let service: VirtualService
    /// The index of its entry in ``OpenRequests``. `nonisolated(unsafe)`: it is used only under the lock of
    /// ``OpenRequests``.
    nonisolated(unsafe) var entryIndex = 0
    package let context: RequestContext
    /// The clock of the deadlines.
    private let surroundings: NetworkEnvironment
    private let began: ContinuousClock.Instant
    private let ticket: ErrorMass.Ticket
    /// The place of the request in the quota of its client; `nil` without a quota.
    private let place: (any AdmissionPlace)?
    private let connection: any Connection
    private let storage: Mutex<Storage>

    private struct Storage: ~Copyable {
        var state = RequestState()
        /// Decodes the body; `nil` after the body has arrived.
        var decoder: FrameDecoder? = FrameDecoder(decompresses: false)
        var revision: VirtualService.Revision
        var work: (any RequestWork)?
        var sources: [SourceScope] = []
        /// How sources reach the client. Decided with the first source.
        var delivery: Delivery?
        /// Whether the request's connection has no room for announcements.
        var isFull = false
        /// Whether the next source waits for the client.
        var isBlocked = false
        /// The time at which the client last accepted a source.
        var lastAccept: ContinuousClock.Instant
        /// Decides when pushed sources start.
        var startQueue = SourceStartQueue()
        var deadlines = RequestDeadlines()
        var frames = 0
        var bytes = 0
        /// The time to the first frames, if requests are logged or this one is observed.
        var firstFrame: Duration?
        var observer: (any RequestObserver)?
        /// The first error of the request or of one of its sources, if requests are logged.
        var error: String?
    }

    private enum Delivery { case pushed(window: Int), named }

    init(
        _ connection: any Connection, of service: VirtualService, _ revision: VirtualService.Revision,
        _ ticket: ErrorMass.Ticket, _ place: (any AdmissionPlace)? = nil
    ) {
        self.place = place
        id = service.open.nextID()
        self.service = service
        self.connection = connection
        self.ticket = ticket
        surroundings = service.open.surroundings
        began = surroundings.now()
        context = connection.takeContext()
        var deadlines = RequestDeadlines()
        deadlines.body = revision.configuration.masterReadTimeout.map { [began] in began + $0 }
        deadlines.serving = revision.configuration.servingTimeout.map { [began] in began + $0 }
        deadlines.client = context.deadline
        storage = Mutex(Storage(revision: revision, lastAccept: began, deadlines: deadlines))
    }

    /// Fails a connection with this request's client.
    ///
    /// A Go client takes every end for that of a complete answer, unless it comes inside the length of a frame
    /// (`docs/protocol.md` §5). So a part of a length precedes the end.
    func fail(_ connection: any Connection, _ message: String) {
        if !context.readsErrors {
            do throws(ConnectionError) {
                _ = try connection.write(ByteBuffer(repeating: 0xFF, count: 4))
            } catch {
                // The connection has ended already, and the next call does nothing.
            }
        }
        connection.fail(message)
    }

    /// The addresses of the two ends of the request's connection.
    package var addresses: ConnectionAddresses { connection.addresses }

    /// Begins to read the body. Called on a network thread.
    func start() {
        connection.setDelegate(self)
        if let next = storage.withLock({ $0.deadlines.next }) { note(deadline: next) }
        // A connection that has ended calls no delegate, so this calls it directly.
        if connection.isPeerClosed { connection.runSoon { self.connectionChanged() } }
    }

    // MARK: - Where code runs

    /// Whether the caller runs on the network thread of the request's connection.
    package var isOnNetworkThread: Bool { connection.isOnNetworkThread }

    /// Schedules `body` on the network thread of the request's connection.
    package func runSoon(_ body: @escaping @Sendable () -> Void) { connection.runSoon(body) }

    /// Runs `body` after a delay, on any thread.
    package func after(_ delay: Duration, _ body: @escaping @Sendable () -> Void) {
        _ = surroundings.schedule(surroundings.now() + delay, body)
    }

    // MARK: - Events of the connection

    package func connectionChanged() {
        let wasReadingBody = storage.withLock { $0.decoder != nil }
        if wasReadingBody { readBody() }
        if connection.isPeerClosed, storage.withLock({ $0.state.stage != .listed }) { return cancel(.clientGone) }
        // Work that has just begun adds its first sources itself.
        guard !wasReadingBody else { return }
        let work = storage.withLock { storage -> (any RequestWork)? in
            guard storage.state.isListing else { return nil }
            storage.isFull = false
            storage.isBlocked = false
            storage.deadlines.announcing = nil
            return storage.work
        }
        work?.resume()
    }

    private func readBody() {
        while true {
            let received = connection.take()
            let result = storage.withLock { storage -> Result<ByteBuffer?, ChanservError>? in
                guard storage.decoder != nil else { return .success(nil) }
                do throws(ChanservError) {
                    switch received {
                    case .nothing: return .success(nil)
                    case .bytes(let bytes):
                        storage.decoder?.append(bytes)
                        return try storage.decoder?.next().map { .success($0) }
                    case .finished:
                        try storage.decoder?.finish()
                        throw ChanservError(.truncatedFrame, "the client closed before it sent its request")
                    case .failed(let error):
                        throw ChanservError(error, while: "reading the request")
                    }
                } catch {
                    return .failure(error)
                }
            }
            switch result {
            case nil: continue
            case .success(nil): return
            case .success(let body?): return begin(body)
            case .failure(let error): return bodyFailed(error)
            }
        }
    }

    private func bodyFailed(_ error: ChanservError) {
        if connection.isPeerClosed { return cancel(.clientGone) }
        endListing(.neutral) {
            fail(connection, error.description)
            report(error)
        }
    }

    private func begin(_ body: ByteBuffer) {
        let revision = service.bodyArrived(self)
        let sourcing = revision.configuration.sourcingTimeout.map { surroundings.now() + $0 }
        let action = storage.withLock { storage in
            storage.decoder = nil
            storage.deadlines.body = nil
            storage.revision = revision
            storage.deadlines.sourcing = sourcing
            return storage.state.receivedBody()
        }
        switch action {
        case .drop: return
        case .begin: break
        }
        if let sourcing { note(deadline: sourcing) }
        revision.handler.begin(
            Request(body: body, vAddr: service.vAddr, from: connection, context), in: self)
    }

    // MARK: - For the code that serves the request

    /// Sets the work that serves the request. It is resumed when there is room, and cancelled when the request ends.
    ///
    /// - Returns: whether the request goes on.
    package func attach(_ work: any RequestWork) -> Bool {
        storage.withLock { storage in
            guard storage.state.isListing else { return false }
            storage.work = work
            return true
        }
    }

    /// Reports the result of the request to `observer`. Call it before the handler of the request begins.
    package func observe(by observer: any RequestObserver) {
        storage.withLock { $0.observer = observer }
    }

    /// The result of ``add(_:_:)``.
    package enum Added: Sendable {
        case added(SourceScope)
        /// There is no room now; ``RequestWork/resume()`` is called when there is. Returns the header to the caller.
        case grantExhausted(SourceHeader)
        /// The request has ended.
        case ended
    }

    /// As ``add(_:_:)``, with a header that is not encoded. A header that is too large ends the request.
    package func add(header: ByteBuffer, _ makeWork: (SourceScope) -> any SourceWork) -> Added {
        guard header.readableBytes <= FrameBatch.maxFrameSize else {
            return notAdded(ChanservError(.wrongFrameSize, "a header of \(header.readableBytes) bytes"))
        }
        return add(SourceHeader(header), makeWork)
    }

    /// Adds a source and pushes or announces it to the client. The caller calls ``SourceScope/start()`` next. Only one
    /// thread may call it at a time.
    ///
    /// - Parameter makeWork: creates the work that makes the source's frames. Called only if the source is added.
    package func add(_ header: consuming SourceHeader, _ makeWork: (SourceScope) -> any SourceWork) -> Added {
        enum Step { case ended, full, pushed(window: Int), named, unknown }
        let step = storage.withLock { storage -> Step in
            guard storage.state.isListing else { return .ended }
            guard storage.state.unacceptedSources < max(1, storage.revision.configuration.maxUnacceptedSources),
                !storage.isFull
            else {
                storage.isBlocked = true
                storage.deadlines.sourcing = nil
                return .full
            }
            switch storage.delivery {
            case .pushed(let window): return .pushed(window: window)
            case .named: return .named
            case nil: return .unknown
            }
        }
        switch step {
        case .ended: return .ended
        case .full: return .grantExhausted(header)
        case .unknown:
            let window = connection.pushWindow
            storage.withLock { $0.delivery = window.map { .pushed(window: $0) } ?? .named }
            return add(header, makeWork)
        case .pushed(let window):
            switch connection.push() {
            case .opened(let pushed):
                let source = SourceScope(self, pushed, window: window)
                guard register(source, makeWork) else { return .ended }
                // Consuming the header leaves the connection as the only owner of the buffer, so that it can append
                // small frames to it.
                let frame = (consume header).frame
                source.send(header: consume frame)
                return .added(source)
            case .grantExhausted:
                storage.withLock { storage in
                    storage.isBlocked = true
                    storage.deadlines.sourcing = nil
                }
                return .grantExhausted(header)
            case .notGranted: return notAdded(ChanservError(.connectionLost, "adding a source"))
            case .ended:
                if connection.isPeerClosed { return notAdded(ChanservError(.connectionLost, "adding a source")) }
                // The client accepted none of the granted sources within the accept timeout. This is not a failure of
                // the service.
                endListing(.neutral) {
                    fail(
                        connection,
                        ChanservError(.deadlineExceeded, "chan accept timeout: the client accepted no source")
                            .description)
                }
                return .ended
            }
        case .named:
            return addNamed(header, makeWork)
        }
    }

    /// Ends the request because the network did not accept a source.
    private func notAdded(_ error: ChanservError) -> Added {
        fail(listing: SourceFuncError(error, isNetworks: true))
        return .ended
    }

    /// Adds a source that the client dials by its name, as with Go servers (`docs/protocol.md` §5).
    private func addNamed(_ header: SourceHeader, _ makeWork: (SourceScope) -> any SourceWork) -> Added {
        let name = RandomName.uuid(service.multiplexer.surroundings.random)
        let source = SourceScope(self, nil, window: 0)
        var isRegistered = false
        do throws(ChanservError) {
            var announcement = FrameBatch()
            announcement.adopt(header.frame, frames: 1)
            try announcement.append(uncompressed: name)
            do throws(ConnectionError) {
                let binding = try service.multiplexer.bind(name, visibleTo: connection) { [weak source] connection in
                    source?.connected(connection) ?? .refused("the source was given up")
                }
                source.setBinding(binding)
                isRegistered = register(source, makeWork)
                guard isRegistered else { return .ended }
                // The client cannot dial the name any more, because the link is lost on which it was announced.
                binding.whenWithdrawn { [weak source] in source?.cancel(.clientGone) }
                if try !connection.write(announcement.take()) { noteFull() }
            } catch {
                throw ChanservError(error, while: "announcing a source")
            }
        } catch {
            if isRegistered { source.cancel(.clientGone) } else { source.drop() }
            return notAdded(error)
        }
        return .added(source)
    }

    /// Records that the connection has no room for announcements until ``connectionChanged()`` is called.
    private func noteFull() {
        let deadline = revision.configuration.masterWriteTimeout.map { surroundings.now() + $0 }
        storage.withLock { storage in
            storage.isFull = true
            storage.deadlines.announcing = deadline
        }
        // Room that became free before the fact was recorded was already reported. Without this check the listing would
        // wait forever.
        let hasCapacity: Bool
        do throws(ConnectionError) {
            hasCapacity = try connection.write(ByteBuffer())
        } catch {
            // The source was announced. The client may have accepted it and ended the request; the connection reports
            // that.
            return
        }
        guard hasCapacity else {
            if let deadline { note(deadline: deadline) }
            return
        }
        storage.withLock { storage in
            storage.isFull = false
            storage.deadlines.announcing = nil
        }
    }

    /// Records a new source and sets its work.
    private func register(_ source: SourceScope, _ makeWork: (SourceScope) -> any SourceWork) -> Bool {
        let revision = revision
        let now = surroundings.now()
        let sourcing = revision.configuration.sourcingTimeout.map { now + $0 }
        let isWanted = storage.withLock { storage -> Bool in
            guard storage.state.isListing else { return false }
            storage.state.addedSource()
            source.index = storage.sources.count
            storage.sources.append(source)
            storage.isBlocked = false
            storage.deadlines.sourcing = sourcing
            return true
        }
        guard isWanted else {
            source.drop()
            return false
        }
        // After the source is recorded, because the work may use and end it at once.
        let work = makeWork(source)
        if !source.setWork(work) { work.cancel() }
        service.totals.addSource()
        // The deadlines of earlier sources are already recorded.
        let accept = now + revision.configuration.chanAcceptTimeout
        note(deadline: min(sourcing ?? accept, accept))
        return true
    }

    /// Ends the listing: after the last source, or with `error`.
    package func finish(_ error: (any Error)?) {
        guard let error else {
            let ends = storage.withLock { $0.state.isListing }
            if ends { endListing(.well) { connection.close() } }
            return
        }
        fail(listing: SourceFuncError(error))
    }

    private func fail(listing error: SourceFuncError) {
        guard storage.withLock({ $0.state.isListing }) else { return }
        if error.isNetworks, connection.isPeerClosed { return cancel(.clientGone) }
        let failure =
            error.isNetworks
            ? error.cause as? ChanservError ?? ChanservError(.sourceFailed, "\(error.cause)", cause: error.cause)
            : ChanservError(.sourceFailed, "\(error.cause)", cause: error.cause)
        let text = failure.code == .sourceFailed ? failure.message : failure.description
        let message = revision.configuration.errorText?(error.cause) ?? text
        endListing(error.counts ? .failed(failure) : .neutral) {
            fail(connection, message)
            report(failure)
        }
    }

    /// Records that the handler needs the request no more. Called once, after ``RequestHandler/begin(_:in:)``.
    package func handlerFinished() {
        let isOver = storage.withLock { storage in
            storage.work = nil
            return storage.state.handlerFinished()
        }
        if isOver { service.open.handlerFinished(self) }
    }

    // MARK: - Ends

    /// Ends the request early. ``RequestState/Cancellation/clientGone`` ends the listing and the sources that the
    /// client has not taken. Any other reason ends all sources.
    package func cancel(_ cancellation: RequestState.Cancellation) {
        let (isEffective, wasListing, work, sources) = storage.withLock { storage in
            // A second reason can end the sources that the client accepted before it went away. The work was already
            // cancelled.
            let work = storage.state.cancellation == nil ? storage.work : nil
            let isEffective = storage.state.cancel(cancellation)
            if isEffective, cancellation != .clientGone { storage.deadlines.client = nil }
            return (isEffective, storage.state.stage != .listed, work, storage.sources)
        }
        guard isEffective else { return }
        var end = RequestState.End.neutral
        switch cancellation {
        case .clientGone:
            connection.close()
        case .stopped(let reason):
            fail(connection, reason ?? "the server stopped serving the request")
        case .deadline(let what):
            let error = ChanservError(.deadlineExceeded, what)
            connection.abort(error.description)
            if wasListing {
                report(error)
                // Only time that the server's code used counts as a failure. Time spent waiting for the client does
                // not.
                let isOwn = what == Self.sourcingTimeout || what == Self.servingTimeout
                if isOwn, !storage.withLock({ $0.isBlocked }) { end = .failed(error) }
            }
        }
        if wasListing { endListing(end) }
        for source in sources where cancellation != .clientGone || !source.isAcceptedByPeer {
            source.cancel(cancellation)
        }
        work?.cancel()
    }

    static let sourcingTimeout = "sourcing timeout"
    static let servingTimeout = "serving timeout"
    /// The same text as in the error of a client that finds the deadline passed.
    static let clientDeadline = "the deadline of the request"

    /// Ends the listing.
    ///
    /// - Parameter tell: sends the end to the client. Called after the state change, so that the end of the connection
    ///   is not mistaken for one by the client, and before the request is answered.
    private func endListing(_ end: RequestState.End, _ tell: () -> Void = {}) {
        let (settlement, observer) = storage.withLock { storage in
            storage.decoder = nil
            let settlement = storage.state.endedListing(end)
            let isOver = settlement?.isAnswered ?? true
            // Sources that the client accepted go on until the client's deadline.
            storage.deadlines = RequestDeadlines(client: isOver ? nil : storage.deadlines.client)
            return (settlement, storage.observer)
        }
        guard let settlement else { return }
        tell()
        service.open.listed(self)
        // Before this request ends, so that a caller that waits for all requests finds the newly admitted one.
        service.listingEnded()
        settle(settlement, observer)
    }

    func ended(_ source: SourceScope, _ end: RequestState.End, _ ended: SourceScope.Ended) {
        // Reads the clock only for the sources that need it.
        let acceptedAt = ended.acceptedAfterSent ? surroundings.now() : nil
        let (settlement, work, observer) = storage.withLock { storage in
            let last = storage.sources.removeLast()
            if last !== source {
                last.index = source.index
                storage.sources[source.index] = last
            }
            storage.startQueue.settle(bytes: ended.unacceptedBytes, wasStarting: ended.wasStarting)
            if let acceptedAt { storage.lastAccept = acceptedAt }
            let settlement = storage.state.endedSource(end, countedAsAccepted: ended.countedAsAccepted)
            if settlement.isAnswered {
                storage.deadlines = RequestDeadlines()
                storage.startQueue.removeAll()
            }
            return (settlement, storage.state.isListing ? storage.work : nil, storage.observer)
        }
        settle(settlement, observer)
        startHeldSources()
        work?.resume()
    }

    private func settle(_ settlement: RequestState.Settlement, _ observer: (any RequestObserver)?) {
        if let failure = settlement.failure {
            service.failed(ticket, failure)
            tell(observer, .failed)
        }
        switch settlement.verdict {
        case .succeeded:
            service.succeeded(ticket)
            tell(observer, .succeeded)
        case .undecided:
            service.undecided(ticket)
            tell(observer, .undecided)
        case nil: break
        }
        if settlement.isAnswered, service.open.log.isOn { service.open.log.record(summary) }
        if settlement.isAnswered { place?.end() }
        // Last, so that a caller that waits for this finds the result counted.
        if settlement.isAnswered { service.open.answered(self, isHandlerFinished: settlement.isHandlerFinished) }
    }

    /// Reports a result to the observer, if there is one.
    private func tell(_ observer: (any RequestObserver)?, _ result: RequestResult) {
        guard let observer else { return }
        let (firstFrame, cancellation) = storage.withLock { ($0.firstFrame, $0.state.cancellation) }
        var result = result
        if result == .undecided, cancellation == .clientGone || cancellation == .deadline(Self.clientDeadline) {
            result = .abandoned
        }
        observer.requestEnded(result, after: firstFrame ?? began.duration(to: surroundings.now()))
    }

    private func report(_ error: ChanservError) {
        note(error)
        revision.configuration.onError(error)
    }

    /// Keeps the first error for the access log.
    func note(_ error: ChanservError) {
        guard service.open.log.isOn else { return }
        storage.withLock { storage in
            if storage.error == nil { storage.error = "\(error)" }
        }
    }

    /// The end of the request, for the access log.
    private var summary: RequestSummary {
        storage.withLock { storage in
            let (result, reason): (RequestSummary.Result, String?) =
                switch storage.state.cancellation {
                case .clientGone: (.cancelled, "the client ended the request")
                case .deadline(let what): (.timeout, what)
                case .stopped(let reason): (.cancelled, reason ?? "the server stopped serving the request")
                case nil:
                    if let error = storage.error {
                        (.failed, error)
                    } else if storage.state.neutralSources > 0 {
                        (.cancelled, "the client ended a source early")
                    } else {
                        (.ok, nil)
                    }
                }
            return RequestSummary(
                id: id, vAddr: service.vAddr, client: connection.peerDescription,
                clientAddress: context.knownPeerAddress, identity: context.identity,
                result: result, reason: reason, sources: storage.state.sourcesTotal, frames: storage.frames,
                bytes: storage.bytes, firstFrame: storage.firstFrame, duration: began.duration(to: surroundings.now()))
        }
    }

    // MARK: - For its sources

    func accepted(_ source: SourceScope) {
        let counts = source.takeUnacceptedCounts()
        let now = surroundings.now()
        let work = storage.withLock { storage -> (any RequestWork)? in
            storage.state.acceptedSource()
            storage.lastAccept = now
            storage.startQueue.settle(bytes: counts.bytes, wasStarting: counts.wasStarting)
            return storage.state.isListing ? storage.work : nil
        }
        startHeldSources()
        work?.resume()
    }

    /// Starts a pushed source that the client has not accepted: at once if unaccepted sources have few bytes, otherwise
    /// later.
    func startOrQueue(_ source: SourceScope) {
        if storage.withLock({ $0.startQueue.startOrQueue(source) }) { startHeld(source) }
        startHeldSources()
    }

    /// Records that an unaccepted source has sent its first frames, or all of them.
    func firstFramesSent() {
        storage.withLock { $0.startQueue.settle(bytes: 0, wasStarting: true) }
        startHeldSources()
    }

    /// Counts bytes of a source that the client has not accepted.
    func countUnaccepted(bytes: Int) {
        storage.withLock { $0.startQueue.unacceptedBytes += bytes }
    }

    /// Starts queued sources while the bytes of unaccepted sources are below the limit.
    private func startHeldSources() {
        while let next = storage.withLock({ $0.startQueue.next() }) { startHeld(next) }
    }

    private func startHeld(_ source: SourceScope) {
        let hasStarted = source.startHeld()
        storage.withLock { $0.startQueue.started(hasStarted) }
    }

    /// Counts frames of a source.
    func sent(frames: Int, bytes: Int) {
        service.totals.add(frames: frames, bytes: bytes)
        let (proves, observer) = storage.withLock { storage -> (Bool, (any RequestObserver)?) in
            if storage.frames == 0, frames > 0, service.open.log.isOn || storage.observer != nil {
                storage.firstFrame = began.duration(to: surroundings.now())
            }
            storage.frames += frames
            storage.bytes += bytes
            // The first frames of a probe prove the service. Any other request proves it after ``ErrorMass/probeTime``.
            guard ticket.isProbe || began.duration(to: surroundings.now()) > ErrorMass.probeTime else {
                return (false, nil)
            }
            return (storage.state.succeeded(), storage.observer)
        }
        guard proves else { return }
        service.succeeded(ticket)
        tell(observer, .succeeded)
    }

    /// The revision that serves the request. Until the body has arrived, the one at the time of the dial.
    var revision: VirtualService.Revision { storage.withLock { $0.revision } }

    var now: ContinuousClock.Instant { surroundings.now() }

    // MARK: - Deadlines

    func note(deadline: ContinuousClock.Instant) { service.open.note(deadline: deadline) }

    private var nextDeadline: ContinuousClock.Instant? {
        storage.withLock { storage in
            var next = storage.deadlines.next
            let acceptTimeout = storage.revision.configuration.chanAcceptTimeout
            for source in storage.sources {
                if let deadline = source.deadline(after: storage.lastAccept, acceptTimeout: acceptTimeout) {
                    next = min(next ?? deadline, deadline)
                }
            }
            return next
        }
    }

    /// Handles the deadlines that have passed.
    ///
    /// - Returns: the next deadline.
    func expire(now: ContinuousClock.Instant) -> ContinuousClock.Instant? {
        let (what, sources) = storage.withLock { storage -> (String?, [SourceScope]) in
            func isOver(_ deadline: ContinuousClock.Instant?) -> Bool { deadline.map { $0 <= now } ?? false }
            let what: String? =
                if isOver(storage.deadlines.body) {
                    "reading the request: master read timeout"
                } else if isOver(storage.deadlines.sourcing) {
                    Self.sourcingTimeout
                } else if isOver(storage.deadlines.announcing) {
                    "announcing a source: master write timeout"
                } else if isOver(storage.deadlines.serving) {
                    Self.servingTimeout
                } else if isOver(storage.deadlines.client) {
                    Self.clientDeadline
                } else {
                    nil
                }
            let acceptTimeout = storage.revision.configuration.chanAcceptTimeout
            let sources = storage.sources.filter {
                isOver($0.deadline(after: storage.lastAccept, acceptTimeout: acceptTimeout))
            }
            return (what, sources)
        }
        if let what { cancel(.deadline(what)) }
        for source in sources { source.expired(now: now) }
        return nextDeadline
    }

    // MARK: - Status

    /// A snapshot of the request for operators.
    package var status: OpenRequest {
        storage.withLock { storage in
            let state: OpenRequest.State =
                if storage.state.stage == .readingBody {
                    .readingBody
                } else if storage.state.isEnding || storage.state.stage == .listed && storage.sources.isEmpty {
                    .ending
                } else if storage.isFull || storage.state.unacceptedSources > 0 && storage.state.stage == .listed {
                    .waitingForClient
                } else if storage.state.stage == .listing && storage.sources.isEmpty {
                    .waitingForSources
                } else {
                    storage.sources.contains { $0.isFull } ? .waitingForClient : .sending
                }
            return OpenRequest(
                id: id, vAddr: service.vAddr, client: connection.peerDescription,
                age: began.duration(to: surroundings.now()), sourcesOpen: storage.state.openSources,
                sourcesTotal: storage.state.sourcesTotal, frames: storage.frames, bytes: storage.bytes, state: state)
        }
    }

    /// The number of sources that are being sent, and of those that the client has not accepted.
    package var sourceCounts: (open: Int, waiting: Int) {
        storage.withLock { storage in
            (storage.state.openSources - storage.state.unacceptedSources, storage.state.unacceptedSources)
        }
    }
}
