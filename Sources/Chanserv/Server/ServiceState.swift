/// State machine of a service's name. The owner's setting and the error mass decide whether the name is bound and which
/// requests are admitted.
package struct ServiceState: Sendable {
    package typealias Instant = ContinuousClock.Instant

    /// The state that the owner of the service requested.
    package enum RequestedState: Sendable, Hashable {
        case enabled
        /// The name is unbound until the owner enables it again.
        case disabled
        /// The name is unbound for good.
        case stopped
    }

    package enum Action: Sendable, Hashable {
        /// Bind the name, and call ``bindingFailed(now:)`` if that fails.
        case bind
        /// Unbind the name.
        case unbind
        /// Refuse the queued requests.
        case refuseWaiting
        /// Admit queued requests, up to the limits.
        case admitWaiting
        /// Report to the owner that the name was withdrawn after this number of failures in a row.
        case reportMass(Int)
        /// Call ``tick(now:)`` at this time.
        case wake(Instant)

        /// Whether the action binds or unbinds the name.
        package var changesName: Bool { self == .bind || self == .unbind }
    }

    /// The decision about a request that was dialled.
    package enum RequestDecision: Sendable, Hashable {
        case serve(ErrorMass.Ticket)
        /// The request waits for ``Action/admitWaiting``, because a probe is running.
        case wait
        case refuse
    }

    /// Pause between a bind that failed and the next attempt.
    package static let retryPause = Duration.milliseconds(100)

    package private(set) var requestedState = RequestedState.enabled
    package private(set) var mass: ErrorMass
    /// Whether the name is bound or is being bound.
    package private(set) var isBound = false
    private var retry: Instant?

    package init(mass: ErrorMass) {
        self.mass = mass
    }

    /// Whether the name should be bound.
    private var isWanted: Bool {
        guard requestedState == .enabled, retry == nil else { return false }
        if case .withdrawn = mass.state { return false }
        return true
    }

    // MARK: - Requests

    package mutating func receivedRequest(now: Instant) -> RequestDecision {
        guard requestedState != .stopped else { return .refuse }
        if case .probing = mass.state { return .wait }
        switch mass.receivedRequest(now: now) {
        case .serve(let ticket): return .serve(ticket)
        case .refuse: return .refuse
        }
    }

    package mutating func succeeded(_ ticket: ErrorMass.Ticket) -> [Action] { apply(mass.succeeded(ticket)) }

    package mutating func undecided(_ ticket: ErrorMass.Ticket) -> [Action] { apply(mass.undecided(ticket)) }

    package mutating func failed(_ ticket: ErrorMass.Ticket, now: Instant) -> [Action] {
        apply(mass.failed(ticket, now: now))
    }

    /// Records a failure of the service itself, outside of any request.
    package mutating func failed(now: Instant) -> [Action] { apply(mass.failed(now: now)) }

    /// Records that the service can serve no more requests for the time being.
    package mutating func exhausted(now: Instant) -> [Action] { apply(mass.exhausted(now: now)) }

    /// Records that a request was admitted as a probe. Until the probe's time is over, other requests wait.
    package mutating func probeBegan() -> [Action] {
        guard case .probing(let until) = mass.state else { return [] }
        return [.wake(until)]
    }

    // MARK: - The owner

    /// Changes the limits of the error mass.
    ///
    /// - Parameter forgives: whether earlier failures are forgotten because the failing code was replaced.
    package mutating func reconfigure(
        limit: Int, pause: Duration, maxPause: Duration, forgives: Bool
    ) -> [Action] {
        var actions = apply(mass.reconfigure(limit: limit, pause: pause, maxPause: maxPause))
        if forgives { actions += apply(mass.forgive()) }
        // The new limits may admit queued requests.
        return actions + [.admitWaiting]
    }

    package mutating func disable() -> [Action] {
        guard requestedState == .enabled else { return [] }
        requestedState = .disabled
        return adjustName()
    }

    package mutating func enable() -> [Action] {
        guard requestedState != .stopped else { return [] }
        requestedState = .enabled
        return (mass.state == .serving ? [] : apply(mass.forgive())) + adjustName()
    }

    package mutating func stop() -> [Action] {
        guard requestedState != .stopped else { return [] }
        requestedState = .stopped
        return adjustName() + [.refuseWaiting]
    }

    // MARK: - The name

    /// Starts the service.
    package mutating func start() -> [Action] { adjustName() }

    package mutating func bindingFailed(now: Instant) -> [Action] {
        isBound = false
        let until = now + Self.retryPause
        retry = until
        return apply(mass.failed(now: now)) + [.wake(until)]
    }

    /// Handles the passing of time.
    package mutating func tick(now: Instant) -> [Action] {
        if let until = retry, now >= until { retry = nil }
        return apply(mass.tick(now: now)) + adjustName()
    }

    private mutating func adjustName() -> [Action] {
        guard isWanted != isBound else { return [] }
        isBound = isWanted
        return [isBound ? .bind : .unbind]
    }

    private mutating func apply(_ action: ErrorMass.Action) -> [Action] {
        switch action {
        case .doNothing: []
        case .withdraw(let until, let mass):
            // The name is unbound before the owner is notified.
            adjustName() + [.refuseWaiting, .reportMass(mass), .wake(until)]
        case .announce: adjustName()
        // A stopped service has already refused all queued requests.
        case .probeAgain, .restore: adjustName() + (requestedState == .stopped ? [] : [.admitWaiting])
        }
    }
}
