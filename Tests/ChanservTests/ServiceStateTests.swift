import Chanserv
import Testing

/// `ServiceState`: every event in every state.
@Suite struct ServiceStateTests {
    private static let start = ContinuousClock.now

    private static func at(_ seconds: Double) -> ServiceState.Instant { start + .seconds(seconds) }
    private func at(_ seconds: Double) -> ServiceState.Instant { Self.at(seconds) }

    enum Begin: CaseIterable {
        case serving, withdrawn, awaitingProbe, probing, retrying, disabled, disabledAndWithdrawn, stopped

        /// A service in this state. It withdraws for ten seconds at the second failure.
        var state: ServiceState {
            var state = ServiceState(mass: ErrorMass(limit: 2, pause: .seconds(10), maxPause: .seconds(60)))
            #expect(state.start() == [.bind])
            let now = ServiceStateTests.start
            switch self {
            case .serving: break
            case .withdrawn, .awaitingProbe, .probing, .disabledAndWithdrawn:
                for _ in 0..<2 { _ = state.failed(now: now) }
                if self == .disabledAndWithdrawn { _ = state.disable() }
                guard self == .awaitingProbe || self == .probing else { break }
                _ = state.tick(now: ServiceStateTests.at(10))
                if self == .probing { _ = state.receivedRequest(now: ServiceStateTests.at(10)) }
            case .retrying: _ = state.bindingFailed(now: now)
            case .disabled: _ = state.disable()
            case .stopped: _ = state.stop()
            }
            return state
        }

        var isBound: Bool { self == .serving || self == .awaitingProbe || self == .probing }
    }

    @Test(arguments: Begin.allCases) func `the name is bound in the states that accept requests`(begin: Begin) {
        #expect(begin.state.isBound == begin.isBound)
    }

    @Test(arguments: Begin.allCases) func `withdrawing a service unbinds its name`(begin: Begin) {
        var state = begin.state
        #expect(state.disable() == (begin.isBound ? [.unbind] : []))
        #expect(!state.isBound)
        #expect(state.requestedState == (begin == .stopped ? .stopped : .disabled))
        #expect(state.disable() == [])
    }

    @Test(arguments: Begin.allCases) func `restoring a service binds its name and clears the error mass`(begin: Begin) {
        var state = begin.state
        let actions = state.enable()
        switch begin {
        case .serving, .stopped: #expect(actions == [])
        case .withdrawn, .disabled, .disabledAndWithdrawn: #expect(actions == [.bind])
        // The name is bound already. Requests that waited for the probe are admitted.
        case .awaitingProbe, .probing: #expect(actions == [.admitWaiting])
        // The retry of the failed bind is scheduled already.
        case .retrying: #expect(actions == [])
        }
        #expect(state.requestedState == (begin == .stopped ? .stopped : .enabled))
        if begin != .stopped, begin != .retrying { #expect(state.isBound && state.mass.mass == 0) }
        #expect(state.enable() == [])
    }

    @Test(arguments: Begin.allCases) func `stopping a service is final`(begin: Begin) {
        var state = begin.state
        let actions = state.stop()
        #expect(actions == (begin == .stopped ? [] : (begin.isBound ? [.unbind] : []) + [.refuseWaiting]))
        #expect(state.requestedState == .stopped && !state.isBound)
        #expect(state.enable() == [] && state.disable() == [] && state.stop() == [])
        #expect(state.receivedRequest(now: at(100)) == .refuse)
        #expect(state.tick(now: at(100)) == [])
    }

    @Test(arguments: Begin.allCases)
    func `the state decides whether a request is served, waits or is refused`(begin: Begin) {
        var state = begin.state
        let admission = state.receivedRequest(now: at(10))
        switch (begin, admission) {
        // A request that was dialled before the name was unbound is served.
        case (.serving, .serve(let ticket)), (.retrying, .serve(let ticket)), (.disabled, .serve(let ticket)):
            #expect(!ticket.isProbe && state.probeBegan() == [])
        case (.awaitingProbe, .serve(let ticket)):
            #expect(ticket.isProbe)
            #expect(state.probeBegan() == [.wake(at(10) + ErrorMass.probeTime)])
            #expect(state.receivedRequest(now: at(10)) == .wait)
        case (.probing, .wait), (.withdrawn, .refuse), (.disabledAndWithdrawn, .refuse), (.stopped, .refuse): break
        default: Issue.record("\(begin): \(admission)")
        }
    }

    @Test(arguments: Begin.allCases)
    func `failures up to the limit unbind the name and report the error mass`(begin: Begin) {
        var state = begin.state
        let actions = (0..<2).map { _ in state.failed(now: at(10)) }
        switch begin {
        case .serving:
            #expect(actions == [[], [.unbind, .refuseWaiting, .reportMass(2), .wake(at(20))]])
        case .disabled:
            #expect(actions == [[], [.refuseWaiting, .reportMass(2), .wake(at(20))]])
        case .retrying:
            // The failed bind is the first of the two failures.
            #expect(actions == [[.refuseWaiting, .reportMass(2), .wake(at(20))], []])
        case .awaitingProbe, .probing:
            #expect(actions == [[.unbind, .refuseWaiting, .reportMass(3), .wake(at(30))], []])
        case .withdrawn, .disabledAndWithdrawn: #expect(actions == [[], []])
        case .stopped: #expect(actions == [[], [.refuseWaiting, .reportMass(2), .wake(at(20))]])
        }
        #expect(!state.isBound)
    }

    @Test(arguments: Begin.allCases) func `an exhausted service withdraws at once`(begin: Begin) {
        var state = begin.state
        let actions = state.exhausted(now: at(10))
        let isWithdrawn = begin == .withdrawn || begin == .disabledAndWithdrawn
        #expect(actions.contains(.unbind) == begin.isBound)
        #expect(actions.contains(.refuseWaiting) == !isWithdrawn)
        #expect(!state.isBound)
    }

    @Test(arguments: Begin.allCases) func `a tick at the end of a pause binds the name again`(begin: Begin) {
        var state = begin.state
        let actions = state.tick(now: at(10))
        switch begin {
        case .withdrawn, .retrying: #expect(actions == [.bind])
        case .serving, .awaitingProbe, .probing, .disabled, .disabledAndWithdrawn, .stopped: #expect(actions == [])
        }
        // The probe exceeds its time: the waiting requests are admitted.
        if begin == .probing { #expect(state.tick(now: at(15)) == [.admitWaiting]) }
        // The pause is over, so enable() binds the name.
        if begin == .disabledAndWithdrawn { #expect(state.enable().contains(.bind)) }
    }

    @Test func `a failed bind counts as a failure and is retried after a pause`() {
        var state = Begin.serving.state
        let until = at(1) + ServiceState.retryPause
        #expect(state.bindingFailed(now: at(1)) == [.wake(until)])
        #expect(!state.isBound && state.mass.mass == 1)
        #expect(state.tick(now: at(1)) == [])
        #expect(state.tick(now: until) == [.bind])
        #expect(state.isBound)
        // The second failure reaches the limit.
        #expect(
            state.bindingFailed(now: at(2)) == [
                .refuseWaiting, .reportMass(2), .wake(at(12)), .wake(at(2) + ServiceState.retryPause),
            ])
        #expect(state.tick(now: at(3)) == [])
        #expect(state.tick(now: at(12)) == [.bind])
    }

    @Test func `the result of the probe decides whether the name stays bound`() throws {
        for (result, actions) in [
            ("succeeded", [ServiceState.Action.admitWaiting]), ("undecided", [.admitWaiting]),
            ("failed", [.unbind, .refuseWaiting, .reportMass(3), .wake(at(31))]),
        ] {
            var state = Begin.awaitingProbe.state
            guard case .serve(let ticket) = state.receivedRequest(now: at(10)) else {
                Issue.record("the probe was not let in")
                return
            }
            switch result {
            case "succeeded": #expect(state.succeeded(ticket) == actions)
            case "undecided": #expect(state.undecided(ticket) == actions)
            default: #expect(state.failed(ticket, now: at(11)) == actions)
            }
            #expect(state.isBound == (result != "failed"))
            guard result == "undecided" else { continue }
            guard case .serve(let next) = state.receivedRequest(now: at(12)), next.isProbe else {
                Issue.record("the next request is not the probe")
                return
            }
        }
    }

    @Test(arguments: Begin.allCases)
    func `reconfiguring admits waiting requests and can clear the error mass`(begin: Begin) {
        var kept = begin.state
        let bound = kept.isBound
        #expect(
            kept.reconfigure(limit: 5, pause: .seconds(1), maxPause: .seconds(2), forgives: false) == [.admitWaiting])
        #expect(kept.isBound == bound)

        var forgiven = begin.state
        let actions = forgiven.reconfigure(limit: 5, pause: .seconds(1), maxPause: .seconds(2), forgives: true)
        #expect(actions.last == .admitWaiting)
        #expect(actions.contains(.bind) == (begin == .withdrawn))
        #expect(forgiven.mass.mass == 0 && forgiven.mass.state == .serving)
    }

    @Test func `only bind and unbind change the name`() {
        let actions: [ServiceState.Action] = [
            .bind, .unbind, .refuseWaiting, .admitWaiting, .reportMass(1), .wake(at(0)),
        ]
        #expect(actions.filter(\.changesName) == [.bind, .unbind])
    }
}
