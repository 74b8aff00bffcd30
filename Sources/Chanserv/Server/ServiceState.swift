/// State machine of a service's name: whether it is bound, as its owner wishes and the error mass allows, and who is let in.
package struct ServiceState: Sendable {
    package typealias Instant = ContinuousClock.Instant

    /// What the owner of the service wants.
    package enum Wish: Sendable, Hashable {
        case enabled
        /// Until further notice the name is not to be there.
        case disabled
        /// The name is gone for good.
        case stopped
    }

    package enum Action: Sendable, Hashable {
        /// Bind the name, and call ``bindingFailed(now:)`` if that fails.
        case bind
        /// Withdraw the name.
        case unbind
        /// Turn away the requests that wait.
        case refuseWaiting
        /// Let in requests that wait, as far as they may.
        case admitWaiting
        /// Tell the owner that the name was withdrawn after so many failures in a row.
        case reportMass(Int)
        /// Call ``tick(now:)`` then.
        case wake(Instant)

        /// Whether it binds or withdraws the name.
        package var changesName: Bool { self == .bind || self == .unbind }
    }

    /// What becomes of a request that was dialled.
    package enum Admission: Sendable, Hashable {
        case serve(ErrorMass.Ticket)
        /// It waits for ``Action/admitWaiting``: another one decides whether the service is well again.
        case wait
        case refuse
    }

    /// How long a bind that failed waits before the next one.
    package static let retryPause = Duration.milliseconds(100)

    package private(set) var wish = Wish.enabled
    package private(set) var mass: ErrorMass
    /// Whether the name is bound, or is being bound.
    package private(set) var isBound = false
    private var retry: Instant?

    package init(mass: ErrorMass) {
        self.mass = mass
    }

    /// Whether the name is to be there.
    private var isWanted: Bool {
        guard wish == .enabled, retry == nil else { return false }
        if case .withdrawn = mass.state { return false }
        return true
    }

    // MARK: - Requests

    package mutating func receivedRequest(now: Instant) -> Admission {
        guard wish != .stopped else { return .refuse }
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

    /// The service failed by itself, outside of any request.
    package mutating func failed(now: Instant) -> [Action] { apply(mass.failed(now: now)) }

    /// The service can serve no more requests for the time being.
    package mutating func exhausted(now: Instant) -> [Action] { apply(mass.exhausted(now: now)) }

    /// A request was admitted as a probe: until its time is over, others wait.
    package mutating func probeBegan() -> [Action] {
        guard case .probing(let until) = mass.state else { return [] }
        return [.wake(until)]
    }

    // MARK: - The owner

    /// New numbers for the error mass.
    ///
    /// - Parameter forgives: whether the failures so far say nothing about what comes.
    package mutating func reconfigure(
        limit: Int, pause: Duration, maxPause: Duration, forgives: Bool
    ) -> [Action] {
        var actions = apply(mass.reconfigure(limit: limit, pause: pause, maxPause: maxPause))
        if forgives { actions += apply(mass.forgive()) }
        // There may be room for more requests now.
        return actions + [.admitWaiting]
    }

    package mutating func withdraw() -> [Action] {
        guard wish == .enabled else { return [] }
        wish = .disabled
        return adjustName()
    }

    package mutating func restore() -> [Action] {
        guard wish != .stopped else { return [] }
        wish = .enabled
        return (mass.state == .serving ? [] : apply(mass.forgive())) + adjustName()
    }

    package mutating func stop() -> [Action] {
        guard wish != .stopped else { return [] }
        wish = .stopped
        return adjustName() + [.refuseWaiting]
    }

    // MARK: - The name

    /// The service begins.
    package mutating func start() -> [Action] { adjustName() }

    package mutating func bindingFailed(now: Instant) -> [Action] {
        isBound = false
        let until = now + Self.retryPause
        retry = until
        return apply(mass.failed(now: now)) + [.wake(until)]
    }

    /// Time has passed.
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
            // The name is gone before the owner hears of it.
            adjustName() + [.refuseWaiting, .reportMass(mass), .wake(until)]
        case .announce: adjustName()
        // A service that was stopped has turned away all that waited.
        case .probeAgain, .restore: adjustName() + (wish == .stopped ? [] : [.admitWaiting])
        }
    }
}
