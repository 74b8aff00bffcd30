import NIOConcurrencyHelpers

/// A name that is being served.
///
/// Made by ``Server/listenAndServe(_:_:)``. What it does can be swapped while it runs: requests that have begun end as
/// they began, and the name stays bound throughout.
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

    /// Stands for the requests that began before an ``update(configuration:sourceFunc:)``.
    public struct Generation: Sendable, Hashable {
        let number: UInt64
    }

    /// The virtual address.
    public let vAddr: String
    let multiplexer: any Multiplexer
    let work = ServiceWork()
    private let inside: NIOLockedValueBox<Inside>

    private struct Inside {
        var recipe: Recipe
        var mass: ErrorMass
        var listener: (any ConnectionListener)?
        var door = ServiceDoor()
        /// Stands among the service's work for those who dialled before the name was withdrawn and were not accepted yet.
        var finishing: ServiceWork.ID?
        /// The accept loop's sleep; cancelling it makes the loop look again.
        var alarm: Task<Void, any Error>?
        /// Requests whose sources are still being listed.
        var listing = 0
        /// After a failed accept: when to try again at the earliest.
        var retry: ContinuousClock.Instant?
        /// Changes with `listener`, so that a failed accept knows whether it is news.
        var listenerNumber = 0

        /// Takes the listener away, to be closed; nobody can come from it any more.
        ///
        /// - Returns: it, and what stood for those who waited in it.
        mutating func dropListener() -> (listener: (any ConnectionListener)?, finished: ServiceWork.ID?) {
            listenerNumber += 1
            // What the door asks for, binding, is what comes next in the accept loop anyway.
            _ = door.emptied()
            alarm?.cancel()
            return (listener.take(), finishing.take())
        }

        mutating func setAlarm(_ until: ContinuousClock.Instant) -> Task<Void, any Error> {
            let alarm = Task { try await Task.sleep(until: until, clock: .continuous) }
            self.alarm = alarm
            return alarm
        }
    }

    init(_ vAddr: String, on multiplexer: any Multiplexer, _ recipe: Recipe) {
        self.vAddr = vAddr
        self.multiplexer = multiplexer
        let configuration = recipe.configuration
        let mass = ErrorMass(
            limit: configuration.maxErrorMass, pause: configuration.errorPause, maxPause: configuration.maxErrorPause)
        inside = NIOLockedValueBox(Inside(recipe: recipe, mass: mass))
    }

    // MARK: For its owner

    /// What the service does at the moment.
    public var state: State {
        inside.withLockedValue { inside in
            switch (inside.door.state, inside.mass.state) {
            case (.stopped, _): return .stopped
            case (.closing, _), (.closed, _): return .disabled
            case (.open, .serving), (.reopening, .serving): return .serving
            case (.open, .withdrawn(let until)), (.reopening, .withdrawn(let until)): return .withdrawn(until: until)
            case (.open, _), (.reopening, _): return .probing
            }
        }
    }

    /// How much has happened.
    public var counters: Counters {
        var counters = work.counters
        counters.errorMass = inside.withLockedValue { $0.mass.mass }
        return counters
    }

    /// What requests that come from now on are served with.
    public var configuration: Server.Configuration { inside.withLockedValue { $0.recipe.configuration } }

    /// Serves requests that come from now on in another way. Those that have begun keep what they began with, and the
    /// name stays bound: no dial fails because of it.
    ///
    /// - Parameters:
    ///   - configuration: the new options.
    ///   - sourceFunc: the new function.
    ///   - forgivesFailures: whether the failures so far say nothing about the new function: they are forgotten, and a
    ///     name that was withdrawn because of them is bound again at once. `false` by default: the count and a pause
    ///     that has begun stay.
    /// - Returns: what stands for the requests that began before, for ``drain(_:until:grace:)``.
    @discardableResult
    public func update(
        configuration: Server.Configuration, sourceFunc: @escaping SourceFunc, forgivesFailures: Bool = false
    ) -> Generation {
        var old: UInt64 = 0
        change(after: nil) { inside in
            old = inside.recipe.generation
            inside.recipe = Recipe(configuration, sourceFunc, generation: old + 1)
            // What the accept loop waits for, such as room for a request, may have changed.
            inside.alarm?.cancel()
            let action = inside.mass.reconfigure(
                limit: configuration.maxErrorMass, pause: configuration.errorPause,
                maxPause: configuration.maxErrorPause)
            // After a forgiving reconfiguration there is nothing left to forgive.
            return forgivesFailures && action == .doNothing ? inside.mass.forgive() : action
        }
        return Generation(number: old)
    }

    /// Withdraws the name for good. Requests that have begun go on. Repeating it does nothing.
    public func stopAccepting() {
        let (listener, finished) = inside.withLockedValue { inside in
            _ = inside.door.stop()
            inside.alarm?.cancel()
            return inside.dropListener()
        }
        listener?.close()
        if let finished { work.ended(finished) }
    }

    /// Withdraws the name until ``restore()``. Requests that have begun go on, and so do those whose clients have dialled
    /// already: no client is turned away that was let in before.
    public func withdraw() {
        let listener = inside.withLockedValue { inside -> (any ConnectionListener)? in
            let action = inside.door.withdraw(isBound: inside.listener != nil)
            inside.alarm?.cancel()
            guard case .finishListener = action else { return nil }
            // Under the lock: who waits for the service to be idle finds it.
            inside.finishing = work.add(.accepting, generation: inside.recipe.generation)
            return inside.listener
        }
        listener?.finish()
    }

    /// Binds a withdrawn name again, whether its owner withdrew it or too many failures did; these are forgotten. Does
    /// nothing where the name is there, or gone for good.
    public func restore() {
        change(after: nil) { inside in
            _ = inside.door.restore()
            inside.alarm?.cancel()
            return inside.mass.state == .serving ? .doNothing : inside.mass.forgive()
        }
    }

    /// Waits until requests and sources have ended, and cancels nothing. Cancelling the task that waits ends the wait.
    ///
    /// - Returns: how much is left at the deadline.
    public func waitUntilIdle(until deadline: ContinuousClock.Instant) async -> Int {
        await work.waitUntilIdle(through: .max, deadline: deadline)
    }

    /// Waits until requests and sources have ended, and cancels those that have not at the deadline.
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
    public func drain(
        _ generation: Generation? = nil, until deadline: ContinuousClock.Instant, grace: Duration = .seconds(1),
        reason: String? = nil
    ) async -> Int {
        let last = generation?.number ?? .max
        if await work.waitUntilIdle(through: last, deadline: deadline) == 0 { return 0 }
        cancelAll(generation, reason: reason)
        // In a task of its own: a cancelled caller has no grace of its own left to wait with.
        return await Task { await self.work.waitUntilIdle(through: last, deadline: .now + grace) }.value
    }

    /// Cancels requests and sources; their clients get an error.
    ///
    /// - Parameters:
    ///   - generation: only those that began no later; `nil` is all, with those that a withdrawn name still lets in.
    ///   - reason: what the clients are told, e.g. `the host is stopping`; `nil`, the default, is that the server stopped.
    public func cancelAll(_ generation: Generation? = nil, reason: String? = nil) {
        if generation == nil {
            let (listener, finished) = inside.withLockedValue { inside in
                inside.door.isFinishing ? inside.dropListener() : (nil, nil)
            }
            listener?.close()
            if let finished { work.ended(finished) }
        }
        work.cancelAll(through: generation?.number ?? .max, reason: reason)
    }

    /// What serves the requests failed by itself, outside of any of them: one failure more in a row.
    package func reportFailure(_ error: ChanservError) {
        work.countFailure()
        change(after: error) { $0.mass.failed(now: .now) }
    }

    /// What serves the requests cannot serve more of them for the time being: the name is withdrawn for its pause at once,
    /// however few failures there were, unless it is never to be (a limit of 0).
    package func withdraw(because error: ChanservError) {
        work.countFailure()
        change(after: error) { $0.mass.exhausted(now: .now) }
    }

    // MARK: Results of requests

    func succeeded(_ ticket: ErrorMass.Ticket) {
        change(after: nil) { $0.mass.succeeded(ticket) }
    }

    func failed(_ ticket: ErrorMass.Ticket, _ error: ChanservError) {
        work.countFailure()
        change(after: error) { $0.mass.failed(ticket, now: .now) }
    }

    func undecided(_ ticket: ErrorMass.Ticket) {
        change(after: nil) { $0.mass.undecided(ticket) }
    }

    /// A request is listed no longer: there is room for another.
    func stoppedListing() {
        inside.withLockedValue { inside in
            inside.listing -= 1
            inside.alarm?.cancel()
        }
    }

    /// Changes the state under the lock and does outside of it what comes of that.
    private func change(after error: ChanservError?, _ body: (inout Inside) -> ErrorMass.Action) {
        let (action, listener, finished, configuration) = inside.withLockedValue { inside in
            let action = body(&inside)
            var listener: (any ConnectionListener)?
            var finished: ServiceWork.ID?
            if action != .doNothing { inside.alarm?.cancel() }
            if case .withdraw = action { (listener, finished) = inside.dropListener() }
            return (action, listener, finished, inside.recipe.configuration)
        }
        guard case .withdraw(_, let mass) = action else { return }
        listener?.close()
        if let finished { work.ended(finished) }
        configuration.onMaxErrorMass(mass, error ?? ChanservError(.sourceFailed, "unknown"))
    }

    // MARK: The accept loop

    /// Binds the name and starts to accept.
    func start() throws {
        do {
            let listener = try multiplexer.bind(vAddr, visibleTo: nil)
            inside.withLockedValue { $0.listener = listener }
        } catch {
            throw ChanservError(error, while: "binding \(vAddr)")
        }
        Task(executorPreference: multiplexer.executor) { await self.acceptLoop() }
    }

    private enum Step {
        case stop
        case bind
        case accept(any ConnectionListener, number: Int)
        case wait(Task<Void, any Error>)
    }

    private func acceptLoop() async {
        while true {
            switch nextStep() {
            case .stop: return
            case .wait(let alarm): _ = await alarm.result
            case .bind: bindAgain()
            case .accept(let listener, let number): await accept(from: listener, number)
            }
        }
    }

    private func nextStep() -> Step {
        inside.withLockedValue { inside in
            switch inside.door.state {
            case .stopped: return .stop
            case .closed: return .wait(inside.setAlarm(.now + .seconds(3600)))
            case .open, .closing, .reopening: break
            }
            // What a tick asks for, binding or accepting again, is what comes next here anyway.
            _ = inside.mass.tick(now: .now)
            switch inside.mass.state {
            case .withdrawn(let until), .probing(let until):
                return .wait(inside.setAlarm(until))
            case .serving, .awaitingProbe:
                if let retry = inside.retry, retry > .now { return .wait(inside.setAlarm(retry)) }
                guard let listener = inside.listener else { return .bind }
                guard inside.listing < inside.recipe.configuration.maxConcurrentRequests else {
                    return .wait(inside.setAlarm(.now + .seconds(3600)))
                }
                return .accept(listener, number: inside.listenerNumber)
            }
        }
    }

    private func bindAgain() {
        do {
            let listener = try multiplexer.bind(vAddr, visibleTo: nil)
            let unwanted = inside.withLockedValue { inside -> Bool in
                guard inside.door.state == .open else { return true }
                inside.listener = listener
                inside.listenerNumber += 1
                return false
            }
            if unwanted { listener.close() }
        } catch {
            acceptFailed(ChanservError(error, while: "binding \(vAddr) again"))
        }
    }

    private func accept(from listener: any ConnectionListener, _ number: Int) async {
        let connection: any Connection
        do {
            connection = try await listener.accept(deadline: nil)
        } catch {
            // Not a failure where this service closed the listener itself, or has nobody left to take from it.
            let (isExpected, finished) = inside.withLockedValue { inside -> (Bool, ServiceWork.ID?) in
                guard inside.listenerNumber == number else { return (true, nil) }
                guard inside.door.isFinishing else { return (false, nil) }
                return (true, inside.dropListener().finished)
            }
            if let finished { work.ended(finished) }
            if isExpected { return }
            acceptFailed(ChanservError(error, while: "accepting on \(vAddr)"))
            return
        }
        let admitted = inside.withLockedValue { inside -> (Recipe, ErrorMass.Ticket, ServiceWork.ID)? in
            guard inside.door.state != .stopped, case .serve(let ticket) = inside.mass.receivedRequest(now: .now) else {
                return nil
            }
            inside.listing += 1
            // Under the lock: whoever drains this generation from now on finds it.
            return (inside.recipe, ticket, work.add(.request, generation: inside.recipe.generation))
        }
        guard let (recipe, ticket, id) = admitted else {
            connection.fail("busy: \(vAddr) takes no requests at the moment")
            return
        }
        RequestServing(connection, of: self, recipe, ticket, id).start()
    }

    private func acceptFailed(_ error: ChanservError) {
        inside.withLockedValue { $0.recipe.configuration }.onError(error)
        work.countFailure()
        change(after: error) { inside in
            // A closed listener stays closed: the multiplexer was shut down.
            if error.code == .cancelled { _ = inside.door.stop() }
            // Where the mass does not make it wait, a failure that repeats must not spin.
            inside.retry = .now + .milliseconds(100)
            return inside.mass.failed(now: .now)
        }
    }
}

extension Service {
    /// How much has happened in a service.
    public struct Counters: Sendable, Hashable {
        /// Requests whose sources are being listed.
        public var requestsOpen = 0
        /// All requests since the start.
        public var requestsTotal = 0
        /// Sources announced that no client has fetched yet.
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
