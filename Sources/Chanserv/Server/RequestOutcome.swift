import NIOConcurrencyHelpers

/// What a request and its sources share: how it all went, and how many sources wait to be fetched.
final class RequestOutcome: Sendable {
    /// How a part ended.
    enum End: Sendable {
        case well
        /// The server's failure.
        case failed(ChanservError)
        /// The client's doing.
        case neutral
    }

    private struct Inside {
        /// The listing, and every source.
        var open = 1
        var failed = false
        var well = false
        var reported = false
        var waiting: Set<ServiceWork.ID> = []
        var lastAccept: ContinuousClock.Instant
    }

    private let service: Service
    private let ticket: ErrorMass.Ticket
    private let limit: Int
    private let room = Event()
    private let begin = ContinuousClock.now
    private let inside: NIOLockedValueBox<Inside>

    init(_ service: Service, _ recipe: Recipe, _ ticket: ErrorMass.Ticket) {
        self.service = service
        self.ticket = ticket
        limit = max(1, recipe.configuration.maxUnacceptedSources)
        inside = NIOLockedValueBox(Inside(lastAccept: begin))
    }

    // MARK: How it went

    func ended(_ end: End) {
        let (failure, well, over) = inside.withLockedValue { inside in
            inside.open -= 1
            var failure: ChanservError?
            switch end {
            case .well: inside.well = true
            case .neutral: break
            case .failed(let error):
                // One request is one failure, however many sources it has.
                if !inside.failed { failure = error }
                inside.failed = true
            }
            let over = inside.open == 0 && !inside.failed && !inside.reported
            return (failure, inside.well, over)
        }
        if let failure { return service.failed(ticket, failure) }
        guard over else { return }
        if well { service.succeeded(ticket) } else { service.undecided(ticket) }
    }

    /// There are frames to send. A request that only ends when its client does is a success before: a probe at once, any other
    /// when it has gone on for a while.
    ///
    /// - Returns: whether there is no need to say it again.
    func hasFrames() -> Bool {
        guard ticket.isProbe || begin.duration(to: .now) > ErrorMass.probeTime else { return false }
        let news = inside.withLockedValue { inside -> Bool in
            if inside.failed || inside.reported { return false }
            inside.reported = true
            return true
        }
        if news { service.succeeded(ticket) }
        return true
    }

    // MARK: Sources that wait to be fetched

    /// Waits until another source may be announced.
    func waitForRoom() async throws {
        while inside.withLockedValue({ $0.waiting.count >= limit }) {
            _ = await room.wait()
            try Task.checkCancellation()
        }
        try Task.checkCancellation()
    }

    func announced(_ id: ServiceWork.ID) {
        inside.withLockedValue { inside in
            inside.open += 1
            inside.waiting.insert(id)
        }
    }

    /// Until when a source may wait that was announced at `instant`: fetching one gives the others their time anew.
    func acceptDeadline(announcedAt instant: ContinuousClock.Instant, timeout: Duration) -> ContinuousClock.Instant {
        max(instant, inside.withLockedValue { $0.lastAccept }) + timeout
    }

    /// A source was fetched, or given up.
    func noLongerWaiting(_ id: ServiceWork.ID, fetched: Bool) {
        inside.withLockedValue { inside in
            inside.waiting.remove(id)
            if fetched { inside.lastAccept = .now }
        }
        room.signal()
    }

    /// The client has given the request up: nobody will fetch what it has not fetched yet.
    func giveUpWaiting() {
        for id in inside.withLockedValue({ $0.waiting }) { service.work.cancelAnnounced(id) }
    }
}
