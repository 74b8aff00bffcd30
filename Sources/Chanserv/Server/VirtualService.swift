import DequeModule
import NIOConcurrencyHelpers

/// A name that is being served.
///
/// ``Server/serve(_:_:)`` creates it. Its source function can be replaced while it runs. Requests that have begun keep
/// the old one, and the name stays bound.
public final class VirtualService: Sendable {
    /// The state of a service.
    public enum State: Sendable, Hashable {
        /// Requests are served.
        case serving
        /// Too many failures in a row: the name is withdrawn until this time.
        case withdrawn(until: ContinuousClock.Instant)
        /// The name is announced again, and one request decides whether it stays.
        case probing
        /// The owner has disabled the service, see ``VirtualService/disable()``.
        case disabled
        /// The service accepts no more requests.
        case stopped
    }

    /// The configuration and the handler of the requests whose body arrives before the next
    /// ``update(configuration:sourceFunc:ignoresFailures:)``.
    ///
    /// A class, because each request holds it. Copying a configuration instead would retain each of its closures.
    public final class Revision: Sendable {
        /// Counts the updates of the service. The service begins with revision 0.
        package let number: UInt64
        let configuration: Server.Configuration
        let handler: any RequestHandler

        init(number: UInt64, configuration: Server.Configuration, handler: any RequestHandler) {
            self.number = number
            self.configuration = configuration
            self.handler = handler
        }
    }

    /// A request that has not begun.
    private struct Arrival {
        let connection: any Connection
        /// See ``RequestScope``.
        let place: (any AdmissionPlace)?
    }

    /// Maximum requests that are queued; further requests are refused.
    private static let maximumWaiting = 16_384

    /// The virtual address.
    public let vAddr: String
    let multiplexer: any Multiplexer
    /// The open requests of this service and of other services of the same server.
    let open: OpenRequests
    let totals: ServiceTotals
    /// The counts of this service's open requests.
    let counts = OpenRequests.Counts()
    private let storage: NIOLockedValueBox<Storage>

    private struct Storage {
        var revision: Revision
        var state: ServiceState
        var binding: (any Binding)?
        /// Decided changes of the name that have not been performed yet, in order.
        var nameChanges = Deque<ServiceState.Action>()
        /// Whether a thread is performing a change of the name.
        var changesName = false
        /// Requests that are queued.
        var waiting = Deque<Arrival>()

        /// The reason for refusing requests because of the state.
        var refusalReason: RefusalReason { state.requestedState == .stopped ? .draining : .withdrawn }
    }

    init(
        _ vAddr: String, on multiplexer: any Multiplexer, open: OpenRequests, _ configuration: Server.Configuration,
        _ handler: any RequestHandler
    ) {
        self.vAddr = vAddr
        totals = ServiceTotals(vAddr: vAddr)
        self.multiplexer = multiplexer
        self.open = open
        let mass = ErrorMass(
            limit: configuration.maxErrorMass, pause: configuration.errorPause, maxPause: configuration.maxErrorPause)
        storage = NIOLockedValueBox(
            Storage(
                revision: Revision(number: 0, configuration: configuration, handler: handler),
                state: ServiceState(mass: mass)))
    }

    /// Withdraws the name when no owner is left.
    deinit {
        storage.withLockedValue { $0.binding.take() }?.close()
    }

    private var now: ContinuousClock.Instant { open.surroundings.now() }

    /// Binds the name and begins to accept requests.
    ///
    /// - Throws: ``ChanservError`` with code `addressInUse`, or `cancelled` after the multiplexer was shut down.
    func start() throws(ChanservError) {
        let actions = storage.withLockedValue { $0.state.start() }
        precondition(actions == [.bind], "the first action of a service is not to bind its name")
        do throws(ConnectionError) {
            try bind()
        } catch {
            throw ChanservError(error, while: "binding \(vAddr)")
        }
    }

    // MARK: - For its owner

    /// The current state.
    public var state: State {
        storage.withLockedValue { storage in
            switch (storage.state.requestedState, storage.state.mass.state) {
            case (.stopped, _): .stopped
            case (.disabled, _): .disabled
            case (.enabled, .serving): .serving
            case (.enabled, .withdrawn(let until)): .withdrawn(until: until)
            case (.enabled, .awaitingProbe), (.enabled, .probing): .probing
            }
        }
    }

    /// Totals since the start, and the numbers of open requests and sources.
    public var counters: Counters {
        var counters = totals.counters
        counters.errorMass = storage.withLockedValue { $0.state.mass.mass }
        counters.requestsOpen = open.openCount(of: self)
        for scope in open.requests(.service(ObjectIdentifier(self))) {
            let sources = scope.sourceCounts
            counters.sourcesOpen += sources.open
            counters.sourcesWaiting += sources.waiting
        }
        return counters
    }

    /// The configuration of requests that arrive from now on.
    public var configuration: Server.Configuration { storage.withLockedValue { $0.revision.configuration } }

    private var revision: Revision { storage.withLockedValue { $0.revision } }

    /// Records that the body of a request has arrived. Returns the revision that serves it.
    func bodyArrived(_ scope: RequestScope) -> Revision {
        storage.withLockedValue { storage in
            // Under the lock, so that an owner that updates the service and then drains the earlier requests finds this
            // one.
            open.bodyArrived(scope, revision: storage.revision.number)
            return storage.revision
        }
    }

    /// Replaces the configuration and the source function for requests that arrive from now on. Requests that have
    /// begun keep the old ones. The name stays bound, so no dial fails.
    ///
    /// - Parameters:
    ///   - configuration: the new options.
    ///   - sourceFunc: the new source function.
    ///   - ignoresFailures: whether earlier failures are forgotten because the new function replaces the failing one.
    ///     A name that was withdrawn because of them is then bound again at once. `false` by default: the count and a
    ///     running pause stay.
    /// - Returns: the revision of the requests that began before, for ``drain(_:until:grace:reason:)``.
    @discardableResult
    public func update(
        configuration: Server.Configuration, sourceFunc: @escaping SourceFunc, ignoresFailures: Bool = false
    ) -> Revision {
        update(
            configuration: configuration, handler: AsyncRequestHandler(sourceFunc, configuration),
            ignoresFailures: ignoresFailures)
    }

    /// As ``update(configuration:sourceFunc:ignoresFailures:)``, with a handler that does not suspend.
    @discardableResult
    package func update(
        configuration: Server.Configuration, handler: any RequestHandler, ignoresFailures: Bool = false
    ) -> Revision {
        var old = revision
        change(after: nil) { storage in
            old = storage.revision
            storage.revision = Revision(number: old.number + 1, configuration: configuration, handler: handler)
            return storage.state.reconfigure(
                limit: configuration.maxErrorMass, pause: configuration.errorPause,
                maxPause: configuration.maxErrorPause, forgives: ignoresFailures)
        }
        return old
    }

    /// Withdraws the name for good. Requests that have begun go on. Further calls do nothing.
    public func stopAccepting() {
        change(after: nil) { $0.state.stop() }
    }

    /// Withdraws the name until ``enable()``. Accepted requests go on.
    public func disable() {
        change(after: nil) { $0.state.disable() }
    }

    /// Binds a withdrawn name again, whether the owner or the error mass withdrew it, and forgets the failures. Does
    /// nothing if the name is bound or withdrawn for good.
    public func enable() {
        change(after: nil) { $0.state.enable() }
    }

    /// Waits until all requests have ended with their sources. Cancels none of them. Cancelling the waiting task ends
    /// the wait.
    ///
    /// - Returns: the number of requests that are left at the deadline, including queued ones.
    public nonisolated(nonsending) func waitUntilIdle(until deadline: ContinuousClock.Instant) async -> Int {
        let left = await open.wait(untilNone: .service(ObjectIdentifier(self)), deadline: deadline)
        // The last open request admits the queued ones before it ends. If none is left, none is queued.
        return left == 0 ? 0 : left + storage.withLockedValue { $0.waiting.count }
    }

    /// Waits until requests have ended with their sources, and cancels those that have not ended at the deadline.
    ///
    /// To end a whole service, call ``stopAccepting()`` first. Cancelling the waiting task has the effect of the
    /// deadline.
    ///
    /// - Parameters:
    ///   - revision: only requests of this and earlier revisions; `nil` for all.
    ///   - deadline: the time at which the remaining requests are cancelled.
    ///   - grace: maximum time for cancelled requests to end. Default 1 s.
    ///   - reason: as for ``cancelAll(_:reason:)``.
    /// - Returns: the number of requests that have not ended even then, because their code ignores cancellation.
    @discardableResult
    public nonisolated(nonsending) func drain(
        _ revision: Revision? = nil, until deadline: ContinuousClock.Instant, grace: Duration = .seconds(1),
        reason: String? = nil
    ) async -> Int {
        let selector = selector(revision)
        if await open.wait(untilNone: selector, deadline: deadline) == 0 { return 0 }
        cancelAll(revision, reason: reason)
        // An unstructured task, because a cancelled caller cannot wait.
        let end = now + grace
        return await Task(executorPreference: open.surroundings.executor) { [open] in
            await open.wait(untilNone: selector, deadline: end)
        }.value
    }

    /// Cancels requests with their sources. Their clients receive an error.
    ///
    /// - Parameters:
    ///   - revision: only requests of this and earlier revisions; `nil` for all, including queued ones.
    ///   - reason: the message for the clients, e.g. `the host is stopping`. `nil` (the default) says that the server
    ///     stopped serving the request.
    public func cancelAll(_ revision: Revision? = nil, reason: String? = nil) {
        if revision == nil { refuseWaiting(.draining, reason ?? "the server stopped serving the request") }
        open.cancel(selector(revision), reason: reason)
    }

    private func selector(_ revision: Revision?) -> OpenRequests.Selector {
        let id = ObjectIdentifier(self)
        return revision.map { .revision(id, through: $0.number) } ?? .service(id)
    }

    /// Counts a failure of the serving instance that happened outside of a request.
    package func reportFailure(_ error: ChanservError) {
        totals.addFailure()
        let now = now
        change(after: error) { $0.state.failed(now: now) }
    }

    /// Withdraws the name at once for a pause, whatever the number of failures, because the instance cannot serve for
    /// the time being. Does nothing if ``Server/Configuration/maxErrorMass`` is 0.
    package func withdraw(because error: ChanservError) {
        totals.addFailure()
        let now = now
        change(after: error) { $0.state.exhausted(now: now) }
    }

    // MARK: - Results of requests

    func succeeded(_ ticket: ErrorMass.Ticket) {
        change(after: nil) { $0.state.succeeded(ticket) }
    }

    func failed(_ ticket: ErrorMass.Ticket, _ error: ChanservError) {
        totals.addFailure()
        let now = now
        change(after: error) { $0.state.failed(ticket, now: now) }
    }

    func undecided(_ ticket: ErrorMass.Ticket) {
        change(after: nil) { $0.state.undecided(ticket) }
    }

    /// Called when the listing of a request has ended, which makes room for a queued request.
    func listingEnded() {
        if storage.withLockedValue({ !$0.waiting.isEmpty }) { admitWaiting() }
    }

    // MARK: - Actions

    /// Changes the state under the lock, then performs the resulting actions outside of it.
    private func change(after error: ChanservError?, _ body: (inout Storage) -> [ServiceState.Action]) {
        let actions = storage.withLockedValue { storage in
            let actions = body(&storage)
            guard !actions.isEmpty else { return actions }
            // Several threads may decide. The queue keeps the changes of the name in the order of the decisions.
            storage.nameChanges += actions.filter(\.changesName)
            return actions
        }
        for action in actions { perform(action, after: error) }
    }

    /// Performs the queued changes of the name. Does nothing if another thread performs them: that thread takes new
    /// ones too.
    private func changeName() {
        while true {
            let next = storage.withLockedValue { storage -> ServiceState.Action? in
                guard !storage.changesName, let next = storage.nameChanges.popFirst() else { return nil }
                storage.changesName = true
                return next
            }
            guard let next else { return }
            var failure: ChanservError?
            if next == .bind {
                do throws(ConnectionError) {
                    try bind()
                } catch {
                    failure = ChanservError(error, while: "binding \(vAddr) again")
                }
            } else {
                storage.withLockedValue { $0.binding.take() }?.close()
            }
            storage.withLockedValue { $0.changesName = false }
            if let failure { bindingFailed(failure) }
        }
    }

    private func perform(_ action: ServiceState.Action, after error: ChanservError?) {
        switch action {
        case .bind, .unbind: changeName()
        case .refuseWaiting: refuseWaiting(refusalReason, busy)
        case .admitWaiting: admitWaiting()
        case .reportMass(let mass):
            revision.configuration.onMaxErrorMass(mass, error ?? ChanservError(.sourceFailed, "unknown"))
        case .wake(let instant):
            _ = open.surroundings.schedule(instant) { [weak self] in
                guard let self else { return }
                change(after: nil) { $0.state.tick(now: max(self.now, instant)) }
            }
        }
    }

    private func bind() throws(ConnectionError) {
        let binding = try multiplexer.bind(vAddr, visibleTo: nil) { [weak self] connection in
            self?.received(connection) ?? .refused("the service is gone")
        }
        storage.withLockedValue { $0.binding = binding }
        binding.refuseDials { [weak self] connection in self?.refusalOfDial(connection) }
        binding.whenWithdrawn { [weak self] in
            self?.bindingFailed(ChanservError(.cancelled, "the network was shut down"))
        }
    }

    private func bindingFailed(_ error: ChanservError) {
        revision.configuration.onError(error)
        totals.addFailure()
        let now = now
        // The network was shut down, so the name cannot be bound again.
        change(after: error) { error.code == .cancelled ? $0.state.stop() : $0.state.bindingFailed(now: now) }
    }

    // MARK: - Requests

    private enum Decision {
        case begin(RequestScope)
        case wait
        case refuse(RefusalReason, String)
        /// The client went away while its request was queued.
        case drop
    }

    /// Handles a dialled request, on a network thread.
    private func received(_ connection: any Connection) -> DialAnswer {
        let now = now
        var place: (any AdmissionPlace)?
        if let admission = revision.configuration.admission {
            let caller = connection.caller
            guard admission.isAllowed(caller) else {
                refused(connection, .denied, denied)
                return .refused(denied)
            }
            switch admission.admit(caller, from: connection.peerAddress, now: now) {
            case .admitted(let taken): place = taken
            case .refused(let message):
                refused(connection, .quota, message)
                return .refused(message)
            }
        }
        let arrival = Arrival(connection: connection, place: place)
        let (decision, actions) = storage.withLockedValue { storage -> (Decision, [ServiceState.Action]) in
            // Queued requests go first.
            let (decision, actions) =
                storage.waiting.isEmpty || isFull(storage)
                ? decide(arrival, &storage, now)
                : (storage.state.requestedState == .stopped ? .refuse(.draining, busy) : .wait, [])
            guard case .wait = decision else { return (decision, actions) }
            guard storage.waiting.count < Self.maximumWaiting else { return (.refuse(.busy, busy), actions) }
            storage.waiting.append(arrival)
            return (.wait, actions)
        }
        for action in actions { perform(action, after: nil) }
        switch decision {
        case .begin(let scope):
            scope.start()
            return .accepted
        case .wait: return .accepted
        case .refuse(let reason, let message):
            refused(connection, reason, message)
            return .refused(message)
        case .drop: preconditionFailure("a request that has just arrived is not queued")
        }
    }

    private var refusalReason: RefusalReason { storage.withLockedValue { $0.refusalReason } }

    /// Counts and logs a refused request.
    private func refused(_ connection: any Connection, _ reason: RefusalReason, _ message: String) {
        totals.addRefusal(reason)
        guard open.log.isOn else { return }
        let address = connection.peerAddress
        open.log.record(
            RequestSummary(
                id: nil, vAddr: vAddr, client: connection.peerDescription,
                clientAddress: address.isEmpty ? nil : address, identity: connection.caller.identity, result: .refused,
                reason: "\(reason.rawValue): \(message)"))
    }

    /// Returns the reason to refuse a dial before its request can begin; `nil` if there is none.
    private func refusalOfDial(_ connection: any Connection) -> String? {
        let revision = revision
        if let admission = revision.configuration.admission, !admission.isAllowed(connection.caller) {
            refused(connection, .denied, denied)
            return denied
        }
        guard storage.withLockedValue({ isFull($0) }), let most = revision.configuration.maxOpenRequests else {
            return nil
        }
        let message = full(most)
        refused(connection, .busy, message)
        return message
    }

    private var denied: String { "not allowed: you may not call \(vAddr)" }

    private func full(_ most: Int) -> String { "busy: \(vAddr) has reached its limit of \(most) open requests" }

    private var busy: String { "busy: \(vAddr) takes no requests at the moment" }

    private func decide(
        _ arrival: Arrival, _ storage: inout Storage, _ now: ContinuousClock.Instant
    ) -> (Decision, [ServiceState.Action]) {
        let revision = storage.revision
        if let most = revision.configuration.maxOpenRequests, isFull(storage) {
            return (.refuse(.busy, full(most)), [])
        }
        guard open.canList(self, atMost: revision.configuration.maxListingRequests) else { return (.wait, []) }
        switch storage.state.receivedRequest(now: now) {
        case .refuse: return (.refuse(storage.refusalReason, busy), [])
        case .wait: return (.wait, [])
        case .serve(let ticket):
            let scope = RequestScope(arrival.connection, of: self, revision, ticket, arrival.place)
            // Under the lock of the service, so that a caller that drains it afterwards finds the request.
            open.begin(scope)
            totals.addRequest()
            return (.begin(scope), ticket.isProbe ? storage.state.probeBegan() : [])
        }
    }

    /// Whether the open and queued requests have reached the limit.
    private func isFull(_ storage: Storage) -> Bool {
        storage.revision.configuration.maxOpenRequests.map { open.openCount(of: self) + storage.waiting.count >= $0 }
            ?? false
    }

    /// Admits queued requests while there is room.
    private func admitWaiting() {
        while true {
            let now = now
            let step = storage.withLockedValue {
                storage -> (connection: any Connection, decision: Decision, actions: [ServiceState.Action])? in
                guard let arrival = storage.waiting.popFirst() else { return nil }
                // The client is gone: it needs no answer, and no plugin is called.
                if arrival.connection.isPeerClosed { return (arrival.connection, .drop, []) }
                // The owner may have withdrawn the permission since the request arrived.
                if let admission = storage.revision.configuration.admission,
                    !admission.isAllowed(arrival.connection.caller)
                {
                    return (arrival.connection, .refuse(.denied, denied), [])
                }
                let (decision, actions) = decide(arrival, &storage, now)
                if case .wait = decision {
                    storage.waiting.prepend(arrival)
                    return nil
                }
                return (arrival.connection, decision, actions)
            }
            guard let step else { return }
            for action in step.actions { perform(action, after: nil) }
            switch step.decision {
            case .begin(let scope):
                scope.start()
                step.connection.callDelegateSoon()
            case .refuse(let reason, let message):
                refused(step.connection, reason, message)
                step.connection.fail(message)
            case .drop: step.connection.close()
            case .wait: return
            }
        }
    }

    private func refuseWaiting(_ reason: RefusalReason, _ message: String) {
        let waiting = storage.withLockedValue { storage in
            defer { storage.waiting = [] }
            return storage.waiting
        }
        for arrival in waiting {
            refused(arrival.connection, reason, message)
            arrival.connection.fail(message)
        }
    }
}
