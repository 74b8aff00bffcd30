import DequeModule
import NIOConcurrencyHelpers
import Synchronization

/// A name that is being served.
///
/// Made by ``Server/serve(_:_:)``. What it does can be swapped while it runs: requests that have begun end as they began, and the
/// name stays bound throughout.
public final class Service: Sendable {
    /// What the service does at the moment.
    public enum State: Sendable, Hashable {
        /// Requests are served.
        case serving
        /// Too many failures in a row: the name is withdrawn until then.
        case withdrawn(until: ContinuousClock.Instant)
        /// The name is back, and one request decides whether it stays.
        case probing
        /// Its owner has withdrawn the name, see ``Service/withdraw()``.
        case disabled
        /// No more requests are accepted.
        case stopped
    }

    /// Stands for the requests that began before an ``update(configuration:sourceFunc:forgivesFailures:)``.
    public struct Generation: Sendable, Hashable {
        let number: UInt64
    }

    /// How requests are served: what a request keeps from the moment its body is there.
    ///
    /// An object, because each request holds it: copying a configuration takes a retain for each of its closures.
    final class Recipe: Sendable {
        let configuration: Server.Configuration
        let handler: any RequestHandler
        let generation: UInt64

        init(configuration: Server.Configuration, handler: any RequestHandler, generation: UInt64) {
            self.configuration = configuration
            self.handler = handler
            self.generation = generation
        }
    }

    /// How many requests may wait to be listed: 16,384. Further ones are refused.
    private static let maximumWaiting = 16_384

    /// The virtual address.
    public let vAddr: String
    let multiplexer: any Multiplexer
    /// The open requests of this service, and of others of the same server.
    let open: OpenRequests
    let totals = ServiceTotals()
    /// Of its open requests.
    let counts = OpenRequests.Counts()
    private let inside: NIOLockedValueBox<Inside>

    private struct Inside {
        var recipe: Recipe
        var state: ServiceState
        var binding: (any Binding)?
        /// Changes of the name that were decided, in order, and not performed yet.
        var nameChanges = Deque<ServiceState.Action>()
        /// A thread performs them.
        var changesName = false
        /// Requests that wait to be listed.
        var waiting = Deque<any Connection>()
    }

    init(
        _ vAddr: String, on multiplexer: any Multiplexer, open: OpenRequests, _ configuration: Server.Configuration,
        _ handler: any RequestHandler
    ) {
        self.vAddr = vAddr
        self.multiplexer = multiplexer
        self.open = open
        let mass = ErrorMass(
            limit: configuration.maxErrorMass, pause: configuration.errorPause, maxPause: configuration.maxErrorPause)
        inside = NIOLockedValueBox(
            Inside(
                recipe: Recipe(configuration: configuration, handler: handler, generation: 0),
                state: ServiceState(mass: mass)))
    }

    /// A service that nobody holds serves no more: its name is withdrawn.
    deinit {
        inside.withLockedValue { $0.binding.take() }?.close()
    }

    private var now: ContinuousClock.Instant { open.surroundings.now() }

    /// Binds the name and begins to accept requests.
    ///
    /// - Throws: ``ChanservError`` with code `addressInUse`, or `cancelled` after the multiplexer was shut down.
    func start() throws(ChanservError) {
        let actions = inside.withLockedValue { $0.state.start() }
        precondition(actions == [.bind], "a service that begins does something else than to bind its name")
        do throws(ConnectionError) {
            try bind()
        } catch {
            throw ChanservError(error, while: "binding \(vAddr)")
        }
    }

    // MARK: - For its owner

    /// What the service does at the moment.
    public var state: State {
        inside.withLockedValue { inside in
            switch (inside.state.wish, inside.state.mass.state) {
            case (.stopped, _): .stopped
            case (.disabled, _): .disabled
            case (.enabled, .serving): .serving
            case (.enabled, .withdrawn(let until)): .withdrawn(until: until)
            case (.enabled, .awaitingProbe), (.enabled, .probing): .probing
            }
        }
    }

    /// How much has happened, and what is open.
    public var counters: Counters {
        var counters = totals.counters
        counters.errorMass = inside.withLockedValue { $0.state.mass.mass }
        counters.requestsOpen = open.openCount(of: self)
        for scope in open.requests(.service(ObjectIdentifier(self))) {
            let sources = scope.sourceCounts
            counters.sourcesOpen += sources.open
            counters.sourcesWaiting += sources.waiting
        }
        return counters
    }

    /// What requests that come from now on are served with.
    public var configuration: Server.Configuration { inside.withLockedValue { $0.recipe.configuration } }

    private var recipe: Recipe { inside.withLockedValue { $0.recipe } }

    /// How to serve a request whose body is there, which is recorded.
    func recipe(for scope: RequestScope) -> Recipe {
        inside.withLockedValue { inside in
            // Under the lock: a caller that replaces the recipe and drains the requests before finds this one.
            open.bodyCame(scope, generation: inside.recipe.generation)
            return inside.recipe
        }
    }

    /// Serves requests that come from now on in another way. Those that have begun keep what they began with, and the
    /// name stays bound: no dial fails because of it.
    ///
    /// - Parameters:
    ///   - configuration: the new options.
    ///   - sourceFunc: the new function.
    ///   - forgivesFailures: whether the failures so far say nothing about the new function: they are forgotten, and a
    ///     name that was withdrawn because of them is bound again at once. `false` by default: the count and a pause
    ///     that has begun stay.
    /// - Returns: what stands for the requests that began before, for ``drain(_:until:grace:reason:)``.
    @discardableResult
    public func update(
        configuration: Server.Configuration, sourceFunc: @escaping SourceFunc, forgivesFailures: Bool = false
    ) -> Generation {
        update(
            configuration: configuration, handler: AsyncRequestHandler(sourceFunc, configuration),
            forgivesFailures: forgivesFailures)
    }

    /// As ``update(configuration:sourceFunc:forgivesFailures:)``, for code that does not wait.
    @discardableResult
    package func update(
        configuration: Server.Configuration, handler: any RequestHandler, forgivesFailures: Bool = false
    ) -> Generation {
        var old: UInt64 = 0
        change(after: nil) { inside in
            old = inside.recipe.generation
            inside.recipe = Recipe(configuration: configuration, handler: handler, generation: old + 1)
            return inside.state.reconfigure(
                limit: configuration.maxErrorMass, pause: configuration.errorPause,
                maxPause: configuration.maxErrorPause, forgives: forgivesFailures)
        }
        return Generation(number: old)
    }

    /// Withdraws the name for good. Requests that have begun go on. Repeating it does nothing.
    public func stopAccepting() {
        change(after: nil) { $0.state.stop() }
    }

    /// Withdraws the name until ``restore()``. Requests that were accepted go on.
    public func withdraw() {
        change(after: nil) { $0.state.withdraw() }
    }

    /// Binds a withdrawn name again, whether its owner withdrew it or too many failures did; these are forgotten. Does
    /// nothing if the name is there, or gone for good.
    public func restore() {
        change(after: nil) { $0.state.restore() }
    }

    /// Waits until the requests have ended with their sources, and cancels nothing. Cancelling the task that waits ends the
    /// wait.
    ///
    /// - Returns: how many are left at the deadline, with those that wait to be let in.
    public nonisolated(nonsending) func waitUntilIdle(until deadline: ContinuousClock.Instant) async -> Int {
        let left = await open.wait(untilNone: .service(ObjectIdentifier(self)), deadline: deadline)
        // The last request lets in those that wait before it ends: none wait if none is left.
        return left == 0 ? 0 : left + inside.withLockedValue { $0.waiting.count }
    }

    /// Waits until requests have ended with their sources, and cancels those that have not at the deadline.
    ///
    /// To end a whole service call ``stopAccepting()`` before. Cancelling the task that waits makes it the deadline.
    ///
    /// - Parameters:
    ///   - generation: only those that began no later; `nil` is all.
    ///   - deadline: when to cancel what is left.
    ///   - grace: how long what was cancelled may take to end. Default 1 s.
    ///   - reason: as for ``cancelAll(_:reason:)``.
    /// - Returns: how many have not ended even then, because their code ignores cancellation.
    @discardableResult
    public nonisolated(nonsending) func drain(
        _ generation: Generation? = nil, until deadline: ContinuousClock.Instant, grace: Duration = .seconds(1),
        reason: String? = nil
    ) async -> Int {
        let question = question(generation)
        if await open.wait(untilNone: question, deadline: deadline) == 0 { return 0 }
        cancelAll(generation, reason: reason)
        // In a task of its own: a cancelled caller has no grace of its own left to wait with.
        let end = now + grace
        return await Task(executorPreference: open.surroundings.executor) { [open] in
            await open.wait(untilNone: question, deadline: end)
        }.value
    }

    /// Cancels requests with their sources; their clients get an error.
    ///
    /// - Parameters:
    ///   - generation: only those that began no later; `nil` is all, with those that wait to be let in.
    ///   - reason: what the clients are told, e.g. `the host is stopping`; `nil`, the default, is that the server stopped.
    public func cancelAll(_ generation: Generation? = nil, reason: String? = nil) {
        if generation == nil { refuseWaiting(reason ?? "the server stopped serving the request") }
        open.cancel(question(generation), reason: reason)
    }

    private func question(_ generation: Generation?) -> OpenRequests.Question {
        let id = ObjectIdentifier(self)
        return generation.map { .generation(id, through: $0.number) } ?? .service(id)
    }

    /// What serves the requests failed by itself, outside of any of them: one failure more in a row.
    package func reportFailure(_ error: ChanservError) {
        totals.addFailure()
        let now = now
        change(after: error) { $0.state.failed(now: now) }
    }

    /// What serves the requests cannot serve more of them for the time being: the name is withdrawn for its pause at once,
    /// however few failures there were, unless it is never to be (a limit of 0).
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

    /// A request is listed no longer: there is room for another.
    func listingEnded() {
        if inside.withLockedValue({ !$0.waiting.isEmpty }) { admitWaiting() }
    }

    // MARK: - Actions

    /// Changes the state under the lock, and performs outside of it what comes of that.
    private func change(after error: ChanservError?, _ body: (inout Inside) -> [ServiceState.Action]) {
        let actions = inside.withLockedValue { inside in
            let actions = body(&inside)
            guard !actions.isEmpty else { return actions }
            // Threads that bind and withdraw the name do so in the order in which that was decided.
            inside.nameChanges += actions.filter(\.changesName)
            return actions
        }
        for action in actions { perform(action, after: error) }
    }

    /// Binds and withdraws the name as was decided. If another thread does, it does this as well.
    private func changeName() {
        while true {
            let next = inside.withLockedValue { inside -> ServiceState.Action? in
                guard !inside.changesName, let next = inside.nameChanges.popFirst() else { return nil }
                inside.changesName = true
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
                inside.withLockedValue { $0.binding.take() }?.close()
            }
            inside.withLockedValue { $0.changesName = false }
            if let failure { bindingFailed(failure) }
        }
    }

    private func perform(_ action: ServiceState.Action, after error: ChanservError?) {
        switch action {
        case .bind, .unbind: changeName()
        case .refuseWaiting: refuseWaiting("busy: \(vAddr) takes no requests at the moment")
        case .admitWaiting: admitWaiting()
        case .reportMass(let mass):
            recipe.configuration.onMaxErrorMass(mass, error ?? ChanservError(.sourceFailed, "unknown"))
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
        inside.withLockedValue { $0.binding = binding }
        binding.whenWithdrawn { [weak self] in
            self?.bindingFailed(ChanservError(.cancelled, "the network was shut down"))
        }
    }

    private func bindingFailed(_ error: ChanservError) {
        recipe.configuration.onError(error)
        totals.addFailure()
        let now = now
        // After a shutdown of the network there is nothing to try again.
        change(after: error) { error.code == .cancelled ? $0.state.stop() : $0.state.bindingFailed(now: now) }
    }

    // MARK: - Requests

    private enum Decision {
        case begin(RequestScope)
        case wait
        case refuse(String)
        /// The client has gone while its request waited.
        case drop
    }

    /// A request was dialled. On a thread of the network.
    private func received(_ connection: any Connection) -> Admission {
        let now = now
        let (decision, actions) = inside.withLockedValue { inside -> (Decision, [ServiceState.Action]) in
            // Those that came before go first.
            let (decision, actions) =
                inside.waiting.isEmpty || isFull(inside)
                ? decide(connection, &inside, now) : (inside.state.wish == .stopped ? .refuse(busy) : .wait, [])
            guard case .wait = decision else { return (decision, actions) }
            guard inside.waiting.count < Self.maximumWaiting else { return (.refuse(busy), actions) }
            inside.waiting.append(connection)
            return (.wait, actions)
        }
        for action in actions { perform(action, after: nil) }
        switch decision {
        case .begin(let scope):
            scope.start()
            return .accepted
        case .wait: return .accepted
        case .refuse(let message):
            totals.addRefusal()
            return .refused(message)
        case .drop: preconditionFailure("a request that has just come does not wait")
        }
    }

    private var busy: String { "busy: \(vAddr) takes no requests at the moment" }

    private func decide(
        _ connection: any Connection, _ inside: inout Inside, _ now: ContinuousClock.Instant
    ) -> (Decision, [ServiceState.Action]) {
        let recipe = inside.recipe
        if let most = recipe.configuration.maxOpenRequests, isFull(inside) {
            return (.refuse("busy: \(vAddr) has \(most) open requests, as many as it may have"), [])
        }
        guard open.mayList(self, atMost: recipe.configuration.maxConcurrentRequests) else { return (.wait, []) }
        switch inside.state.receivedRequest(now: now) {
        case .refuse: return (.refuse(busy), [])
        case .wait: return (.wait, [])
        case .serve(let ticket):
            let scope = RequestScope(connection, of: self, recipe, ticket)
            // Under the lock of the service: a caller that drains it from now on finds the request.
            open.begin(scope)
            totals.addRequest()
            return (.begin(scope), ticket.isProbe ? inside.state.probeBegan() : [])
        }
    }

    /// Whether there are as many requests, with those that wait, as there may be.
    private func isFull(_ inside: Inside) -> Bool {
        inside.recipe.configuration.maxOpenRequests.map { open.openCount(of: self) + inside.waiting.count >= $0 }
            ?? false
    }

    /// Lets in requests that wait, as long as there is room.
    private func admitWaiting() {
        while true {
            let now = now
            let step = inside.withLockedValue {
                inside -> (connection: any Connection, decision: Decision, actions: [ServiceState.Action])? in
                guard let connection = inside.waiting.popFirst() else { return nil }
                // A client that has gone needs no answer, and no plugin is called for it.
                if connection.isPeerGone { return (connection, .drop, []) }
                let (decision, actions) = decide(connection, &inside, now)
                if case .wait = decision {
                    inside.waiting.prepend(connection)
                    return nil
                }
                return (connection, decision, actions)
            }
            guard let step else { return }
            for action in step.actions { perform(action, after: nil) }
            switch step.decision {
            case .begin(let scope):
                scope.start()
                step.connection.callDelegateSoon()
            case .refuse(let message):
                totals.addRefusal()
                step.connection.fail(message)
            case .drop: step.connection.close()
            case .wait: return
            }
        }
    }

    private func refuseWaiting(_ message: String) {
        let waiting = inside.withLockedValue { inside in
            defer { inside.waiting = [] }
            return inside.waiting
        }
        for connection in waiting {
            totals.addRefusal()
            connection.fail(message)
        }
    }
}

extension Service {
    /// How much has happened in a service, and what is open.
    public struct Counters: Sendable, Hashable {
        /// Requests that are not answered: their sources are being added or sent.
        public var requestsOpen = 0
        /// All requests since the start.
        public var requestsTotal = 0
        /// Requests that were refused because of a limit or because the name was withdrawn, since the start.
        public var requestsRefused = 0
        /// Sources that no client has taken yet.
        public var sourcesWaiting = 0
        /// Sources being sent.
        public var sourcesOpen = 0
        /// All sources since the start.
        public var sourcesTotal = 0
        /// Frames given to connections since the start.
        public var frames = 0
        /// Their encoded bytes.
        public var bytes = 0
        /// Failures that count (see ``Server/Configuration/maxErrorMass``), since the start.
        public var failures = 0
        /// Failures in a row at the moment.
        public var errorMass = 0
    }
}

/// Totals of a service since its start.
final class ServiceTotals: Sendable {
    private let requests = Atomic<Int>(0)
    private let refusals = Atomic<Int>(0)
    private let sources = Atomic<Int>(0)
    private let frames = Atomic<Int>(0)
    private let bytes = Atomic<Int>(0)
    private let failures = Atomic<Int>(0)

    func addRequest() { requests.add(1, ordering: .relaxed) }
    func addRefusal() { refusals.add(1, ordering: .relaxed) }
    func addSource() { sources.add(1, ordering: .relaxed) }
    func addFailure() { failures.add(1, ordering: .relaxed) }

    func add(frames: Int, bytes: Int) {
        self.frames.add(frames, ordering: .relaxed)
        self.bytes.add(bytes, ordering: .relaxed)
    }

    var counters: Service.Counters {
        var counters = Service.Counters()
        counters.requestsTotal = requests.load(ordering: .relaxed)
        counters.requestsRefused = refusals.load(ordering: .relaxed)
        counters.sourcesTotal = sources.load(ordering: .relaxed)
        counters.frames = frames.load(ordering: .relaxed)
        counters.bytes = bytes.load(ordering: .relaxed)
        counters.failures = failures.load(ordering: .relaxed)
        return counters
    }
}
