/// State machine of the error mass: the circuit breaker of a service. *Error mass* is the Go package's name for the
/// number of failures in a row.
///
/// It counts failures; a success resets the count. At the limit the service withdraws for a pause and then
/// admits one request as a probe. If the probe succeeds, the service is restored. If it fails, the service withdraws
/// again for twice the time. The type has no clock: the current time is an argument.
package struct ErrorMass: Sendable {
    package typealias Instant = ContinuousClock.Instant

    /// The state of the service.
    package enum State: Sendable, Hashable {
        /// Every request is admitted.
        case serving
        /// The name is withdrawn until this time.
        case withdrawn(until: Instant)
        /// The name is announced again, and the next request is the probe.
        case awaitingProbe
        /// The probe is running. Other requests wait for its result until this time.
        case probing(until: Instant)
    }

    /// The action that a result, or the passing of time, requires.
    package enum Action: Sendable, Hashable {
        case doNothing
        /// Withdraw the name until this time, after `mass` failures in a row.
        case withdraw(until: Instant, mass: Int)
        /// Announce the name.
        case announce
        /// Admit the next request as the probe, because the last probe had no result.
        case probeAgain
        /// Admit all requests.
        case restore
    }

    /// The decision about a new request.
    package enum BreakerDecision: Sendable, Hashable {
        /// Serve the request, and report its result with this ticket.
        case serve(Ticket)
        /// Refuse the request for now.
        case refuse
    }

    /// Links a result to the epoch in which its request began. A result from before a withdrawal has no effect after
    /// it.
    package struct Ticket: Sendable, Hashable {
        fileprivate let epoch: UInt64
        /// Whether this request is the probe.
        package let isProbe: Bool
    }

    /// Maximum time for which other requests wait for the probe. After that all are admitted, and the mass stays.
    package static let probeTime = Duration.seconds(5)

    /// Number of failures in a row that withdraws the name; 0 disables this.
    package var limit: Int
    /// Pause at the limit.
    package var pause: Duration
    /// Maximum pause.
    package var maxPause: Duration
    /// The number of failures since the last success.
    package private(set) var mass = 0
    package private(set) var state = State.serving
    private var epoch: UInt64 = 0
    /// The number of withdrawals since the last success. Each one after the first doubles the pause.
    private var withdrawals = 0

    package init(limit: Int = 10, pause: Duration = .seconds(30), maxPause: Duration = .seconds(300)) {
        self.limit = limit
        self.pause = pause
        self.maxPause = maxPause
    }

    /// Decides about a new request.
    package mutating func receivedRequest(now: Instant) -> BreakerDecision {
        switch state {
        case .serving:
            return .serve(Ticket(epoch: epoch, isProbe: false))
        case .awaitingProbe:
            state = .probing(until: now + Self.probeTime)
            return .serve(Ticket(epoch: epoch, isProbe: true))
        case .withdrawn, .probing:
            return .refuse
        }
    }

    /// Records that a request succeeded.
    package mutating func succeeded(_ ticket: Ticket) -> Action {
        guard ticket.epoch == epoch else { return .doNothing }
        (mass, withdrawals) = (0, 0)
        switch state {
        case .serving:
            return .doNothing
        case .awaitingProbe, .probing:
            return restore()
        case .withdrawn:
            return .doNothing
        }
    }

    /// Records that a request ended without a result about the service: its client went away, or caused the error.
    package mutating func undecided(_ ticket: Ticket) -> Action {
        guard ticket.epoch == epoch, case .probing = state else { return .doNothing }
        state = .awaitingProbe
        return .probeAgain
    }

    /// Records that a request failed.
    package mutating func failed(_ ticket: Ticket, now: Instant) -> Action {
        guard ticket.epoch == epoch else { return .doNothing }
        return failed(now: now)
    }

    /// Records a failure of the service itself: its name could not be bound, or its instance failed outside of a
    /// request.
    package mutating func failed(now: Instant) -> Action {
        failed(now: now, isExhausted: false)
    }

    /// Withdraws the name at once, even if this failure does not reach the limit. For an instance that cannot serve for
    /// the time being.
    package mutating func exhausted(now: Instant) -> Action {
        failed(now: now, isExhausted: true)
    }

    private mutating func failed(now: Instant, isExhausted: Bool) -> Action {
        guard limit > 0 else { return .doNothing }
        switch state {
        case .withdrawn:
            return .doNothing
        case .serving:
            mass += 1
            guard mass >= limit || isExhausted || withdrawals > 0 else { return .doNothing }
        case .awaitingProbe, .probing:
            mass += 1
        }
        epoch += 1
        let until = now + nextPause
        withdrawals += 1
        state = .withdrawn(until: until)
        return .withdraw(until: until, mass: mass)
    }

    /// Handles the passing of time.
    package mutating func tick(now: Instant) -> Action {
        switch state {
        case .withdrawn(let until) where now >= until:
            state = .awaitingProbe
            return .announce
        case .probing(let until) where now >= until:
            // The probe had no result in time. All requests are admitted, but the mass stays: the next failure
            // withdraws the name again, for longer, and a success resets the mass. The result of the probe still
            // counts.
            state = .serving
            return .restore
        case .serving, .withdrawn, .awaitingProbe, .probing:
            return .doNothing
        }
    }

    /// Changes the limits. The count and a running pause stay, but a limit of 0 resets both.
    package mutating func reconfigure(limit: Int, pause: Duration, maxPause: Duration) -> Action {
        self.limit = limit
        self.pause = pause
        self.maxPause = maxPause
        return limit == 0 ? forgive() : .doNothing
    }

    /// Resets the count, because the failing code was replaced. Results of requests that began before have no effect.
    package mutating func forgive() -> Action {
        (mass, withdrawals) = (0, 0)
        switch state {
        case .serving:
            epoch += 1
            return .doNothing
        case .withdrawn:
            state = .serving
            epoch += 1
            return .announce
        case .awaitingProbe, .probing:
            return restore()
        }
    }

    /// The pause, doubled for each withdrawal since the last success, up to the maximum.
    private var nextPause: Duration {
        var pause = pause
        for _ in 0..<withdrawals where pause < maxPause { pause += pause }
        return min(pause, max(maxPause, self.pause))
    }

    private mutating func restore() -> Action {
        state = .serving
        epoch += 1
        return .restore
    }
}
