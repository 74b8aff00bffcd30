/// When a service that keeps failing withdraws, and when it comes back.
///
/// Counts the failures in a row; one success clears them. At the limit the service withdraws for a pause, then lets one
/// request through: if that goes well everything is as before, otherwise it withdraws again for twice as long. Pure: the
/// time comes in as an argument.
package struct ErrorMass: Sendable {
    package typealias Instant = ContinuousClock.Instant

    /// What the service does now.
    package enum State: Sendable, Hashable {
        /// Every request is let through.
        case serving
        /// The name is withdrawn until then.
        case withdrawn(until: Instant)
        /// The name is back, and nobody has asked yet.
        case awaitingProbe
        /// One request was let through and decides; the others wait for it until then.
        case probing(until: Instant)
    }

    /// What a result, or time, makes the service do.
    package enum Action: Sendable, Hashable {
        case doNothing
        /// Withdraw the name.
        case withdraw(until: Instant, mass: Int)
        /// Announce the name.
        case announce
        /// Let the next request through as the probe: the last one decided nothing.
        case probeAgain
        /// Let everybody in.
        case restore
    }

    /// What to do with a request.
    package enum Admission: Sendable, Hashable {
        /// Serve it, and report how it went under this ticket.
        case serve(Ticket)
        /// Not now.
        case refuse
    }

    /// Ties a result to the time its request began in: what began before a withdrawal decides nothing after it.
    package struct Ticket: Sendable, Hashable {
        fileprivate let epoch: UInt64
        /// Whether the service waits for this one's result.
        package let isProbe: Bool
    }

    /// How long a probing request may go on undecided before all others are let in again, the mass unchanged.
    package static let probeTime = Duration.seconds(5)

    /// At how many failures in a row to withdraw; 0 is never.
    package var limit: Int
    /// How long to withdraw at the limit.
    package var pause: Duration
    /// How long to withdraw at most.
    package var maxPause: Duration
    /// The failures since the last success.
    package private(set) var mass = 0
    package private(set) var state = State.serving
    private var epoch: UInt64 = 0

    package init(limit: Int = 10, pause: Duration = .seconds(30), maxPause: Duration = .seconds(300)) {
        self.limit = limit
        self.pause = pause
        self.maxPause = maxPause
    }

    /// A request came.
    package mutating func receivedRequest(now: Instant) -> Admission {
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

    /// A request went well.
    package mutating func succeeded(_ ticket: Ticket) -> Action {
        guard ticket.epoch == epoch else { return .doNothing }
        mass = 0
        switch state {
        case .serving:
            return .doNothing
        case .awaitingProbe, .probing:
            return restore()
        case .withdrawn:
            return .doNothing
        }
    }

    /// A request ended without saying anything about the service: its client went away, or is to blame.
    package mutating func undecided(_ ticket: Ticket) -> Action {
        guard ticket.epoch == epoch, case .probing = state else { return .doNothing }
        state = .awaitingProbe
        return .probeAgain
    }

    /// A request failed.
    package mutating func failed(_ ticket: Ticket, now: Instant) -> Action {
        guard ticket.epoch == epoch else { return .doNothing }
        return failed(now: now)
    }

    /// The service itself failed: it could not accept a request, or not come back.
    package mutating func failed(now: Instant) -> Action {
        guard limit > 0 else { return .doNothing }
        switch state {
        case .withdrawn:
            return .doNothing
        case .serving:
            mass += 1
            guard mass >= limit else { return .doNothing }
        case .awaitingProbe, .probing:
            mass += 1
        }
        epoch += 1
        let until = now + pauseForMass
        state = .withdrawn(until: until)
        return .withdraw(until: until, mass: mass)
    }

    /// What serves the requests cannot serve more for the time being: as if the limit were reached with this failure.
    package mutating func exhausted(now: Instant) -> Action {
        if case .serving = state { mass = max(mass, limit - 1) }
        return failed(now: now)
    }

    /// Time has passed.
    package mutating func tick(now: Instant) -> Action {
        switch state {
        case .withdrawn(let until) where now >= until:
            state = .awaitingProbe
            return .announce
        case .probing(let until) where now >= until:
            // Proven neither way: all are let in again, but the mass stays, so that one failure more withdraws the name
            // again, for longer, and one success clears it. The probe's own end still counts.
            state = .serving
            return .restore
        case .serving, .withdrawn, .awaitingProbe, .probing:
            return .doNothing
        }
    }

    /// Puts new numbers in; the count and a pause that has begun stay. A limit of 0 ends them.
    package mutating func reconfigure(limit: Int, pause: Duration, maxPause: Duration) -> Action {
        self.limit = limit
        self.pause = pause
        self.maxPause = maxPause
        return limit == 0 ? forgive() : .doNothing
    }

    /// Begins anew, because what failed was replaced: whatever began before decides nothing any more.
    package mutating func forgive() -> Action {
        mass = 0
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

    /// The pause at the limit, doubled for each failure past it, up to the longest.
    private var pauseForMass: Duration {
        var pause = pause
        for _ in 0..<max(0, mass - limit) where pause < maxPause { pause += pause }
        return min(pause, max(maxPause, self.pause))
    }

    private mutating func restore() -> Action {
        state = .serving
        epoch += 1
        return .restore
    }
}
