import Chanserv
import Testing

@Suite struct ErrorMassTests {
    private let start = ContinuousClock.now

    private func at(_ seconds: Double) -> ErrorMass.Instant { start + .seconds(seconds) }

    private func ticket(_ mass: inout ErrorMass, _ seconds: Double = 0) throws -> ErrorMass.Ticket {
        guard case .serve(let ticket) = mass.receivedRequest(now: at(seconds)) else {
            throw ChanservError(.refused, "refused in \(mass.state)")
        }
        return ticket
    }

    /// An error mass with limit 3 in the named state, and the ticket of the last request that it admitted.
    private func mass(_ name: String) throws -> (ErrorMass, ErrorMass.Ticket) {
        var mass = ErrorMass(limit: 3, pause: .seconds(10), maxPause: .seconds(60))
        var last = try ticket(&mass)
        if name == "serving" { return (mass, last) }
        for _ in 0..<3 { _ = mass.failed(last, now: at(0)) }
        if name == "withdrawn" { return (mass, last) }
        #expect(mass.tick(now: at(10)) == .announce)
        if name == "awaitingProbe" { return (mass, last) }
        last = try ticket(&mass, 10)
        return (mass, last)
    }

    @Test func `failures in a row up to the limit withdraw the service`() throws {
        var mass = ErrorMass()
        let request = try ticket(&mass)
        for count in 1..<10 {
            #expect(mass.failed(request, now: at(0)) == .doNothing)
            #expect(mass.mass == count)
        }
        #expect(mass.failed(request, now: at(0)) == .withdraw(until: at(30), mass: 10))
        #expect(mass.state == .withdrawn(until: at(30)))
    }

    @Test func `one success clears the error mass`() throws {
        var mass = ErrorMass(limit: 3)
        let request = try ticket(&mass)
        for _ in 0..<5 {
            _ = mass.failed(request, now: at(0))
            _ = mass.failed(request, now: at(0))
            #expect(mass.succeeded(request) == .doNothing)
            #expect(mass.mass == 0 && mass.state == .serving)
        }
    }

    @Test func `an exhausted service withdraws at once`() throws {
        var mass = ErrorMass(limit: 3, pause: .seconds(10), maxPause: .seconds(60))
        _ = try ticket(&mass)
        #expect(mass.exhausted(now: at(0)) == .withdraw(until: at(10), mass: 1))
        #expect(mass.exhausted(now: at(1)) == .doNothing)
        #expect(mass.tick(now: at(10)) == .announce)
        #expect(mass.exhausted(now: at(11)) == .withdraw(until: at(31), mass: 2))
        // A probe without a result in time admits all requests, and the next failure withdraws the name again.
        #expect(mass.tick(now: at(31)) == .announce)
        let probe = try ticket(&mass, 31)
        #expect(mass.tick(now: at(36)) == .restore)
        #expect(mass.failed(now: at(37)) == .withdraw(until: at(77), mass: 3))
        #expect(mass.succeeded(probe) == .doNothing && mass.mass == 3)
        var never = ErrorMass(limit: 0)
        #expect(never.exhausted(now: at(0)) == .doNothing)
    }

    @Test func `a limit of zero never withdraws`() throws {
        var mass = ErrorMass(limit: 0)
        let request = try ticket(&mass)
        for _ in 0..<1000 { #expect(mass.failed(request, now: at(0)) == .doNothing) }
        #expect(mass.failed(now: at(0)) == .doNothing)
        #expect(mass.state == .serving && mass.mass == 0)
    }

    @Test func `a withdrawn or probing service refuses requests, and the first one after the pause is the probe`()
        throws
    {
        for (name, serves, probe) in [
            ("serving", true, false), ("withdrawn", false, false), ("awaitingProbe", true, true),
            ("probing", false, false),
        ] {
            var (mass, _) = try mass(name)
            switch mass.receivedRequest(now: at(10)) {
            case .serve(let ticket): #expect(serves && ticket.isProbe == probe, "\(name)")
            case .refuse: #expect(!serves, "\(name)")
            }
        }
    }

    @Test func `only the success of the probe restores the service`() throws {
        for (name, action, state) in [
            ("serving", ErrorMass.Action.doNothing, ErrorMass.State.serving),
            ("withdrawn", .doNothing, .withdrawn(until: at(10))),
            ("awaitingProbe", .doNothing, .awaitingProbe), ("probing", .restore, .serving),
        ] {
            var (mass, ticket) = try mass(name)
            #expect(mass.succeeded(ticket) == action, "\(name)")
            #expect(mass.state == state, "\(name)")
        }
    }

    @Test func `one failed request withdraws the service only if it is the probe`() throws {
        for (name, action, state) in [
            ("serving", ErrorMass.Action.doNothing, ErrorMass.State.serving),
            ("withdrawn", .doNothing, .withdrawn(until: at(10))), ("awaitingProbe", .doNothing, .awaitingProbe),
            ("probing", .withdraw(until: at(31), mass: 4), .withdrawn(until: at(31))),
        ] {
            var (mass, ticket) = try mass(name)
            #expect(mass.failed(ticket, now: at(11)) == action, "\(name)")
            #expect(mass.state == state, "\(name)")
        }
    }

    @Test func `a failure of the service itself withdraws it while it awaits or runs a probe`() throws {
        for (name, action) in [
            ("serving", ErrorMass.Action.doNothing), ("withdrawn", .doNothing),
            ("awaitingProbe", .withdraw(until: at(31), mass: 4)), ("probing", .withdraw(until: at(31), mass: 4)),
        ] {
            var (mass, _) = try mass(name)
            #expect(mass.failed(now: at(11)) == action, "\(name)")
        }
    }

    @Test func `an undecided probe is repeated, and other undecided requests change nothing`() throws {
        for (name, action, state) in [
            ("serving", ErrorMass.Action.doNothing, ErrorMass.State.serving),
            ("withdrawn", .doNothing, .withdrawn(until: at(10))), ("awaitingProbe", .doNothing, .awaitingProbe),
            ("probing", .probeAgain, .awaitingProbe),
        ] {
            var (mass, ticket) = try mass(name)
            #expect(mass.undecided(ticket) == action, "\(name)")
            #expect(mass.state == state, "\(name)")
        }
    }

    @Test func `a tick announces the service after its pause and restores it after the probe time`() throws {
        for (name, early, late) in [
            ("serving", ErrorMass.Action.doNothing, ErrorMass.Action.doNothing), ("withdrawn", .doNothing, .announce),
            ("awaitingProbe", .doNothing, .doNothing), ("probing", .doNothing, .restore),
        ] {
            var (mass, _) = try mass(name)
            #expect(mass.tick(now: at(9.9)) == early, "\(name)")
            #expect(mass.tick(now: at(15)) == late, "\(name)")
        }
    }

    @Test func `reconfiguring keeps the state unless the new limit is zero`() throws {
        for (name, off) in [
            ("serving", ErrorMass.Action.doNothing), ("withdrawn", .announce), ("awaitingProbe", .restore),
            ("probing", .restore),
        ] {
            var (mass, _) = try mass(name)
            let before = mass.state
            #expect(mass.reconfigure(limit: 5, pause: .seconds(1), maxPause: .seconds(2)) == .doNothing, "\(name)")
            #expect(mass.state == before, "\(name)")
            #expect(mass.reconfigure(limit: 0, pause: .seconds(1), maxPause: .seconds(2)) == off, "\(name)")
            #expect(mass.state == .serving && mass.mass == 0, "\(name)")
        }
    }

    @Test func `forgiving restores the service, and requests that began before do not count`() throws {
        for (name, action) in [
            ("serving", ErrorMass.Action.doNothing), ("withdrawn", .announce), ("awaitingProbe", .restore),
            ("probing", .restore),
        ] {
            var (mass, old) = try mass(name)
            #expect(mass.forgive() == action, "\(name)")
            #expect(mass.state == .serving && mass.mass == 0, "\(name)")
            for _ in 0..<10 { #expect(mass.failed(old, now: at(1)) == .doNothing, "\(name)") }
            #expect(mass.mass == 0, "\(name)")
            let new = try ticket(&mass, 1)
            #expect(mass.failed(new, now: at(1)) == .doNothing && mass.mass == 1, "\(name)")
        }
    }

    @Test func `only one request probes, and its success clears the error mass`() throws {
        var (mass, probe) = try mass("probing")
        #expect(mass.receivedRequest(now: at(10)) == .refuse)
        #expect(mass.succeeded(probe) == .restore)
        #expect(mass.state == .serving && mass.mass == 0)
        let next = try ticket(&mass, 11)
        #expect(mass.failed(next, now: at(11)) == .doNothing)
        #expect(mass.mass == 1)
    }

    @Test func `requests that began before a withdrawal do not count after it`() throws {
        var (mass, old) = try mass("withdrawn")
        _ = mass.tick(now: at(10))
        let probe = try ticket(&mass, 10)
        #expect(mass.succeeded(old) == .doNothing)
        #expect(mass.failed(old, now: at(11)) == .doNothing)
        #expect(mass.undecided(old) == .doNothing)
        #expect(mass.succeeded(probe) == .restore)
        for _ in 0..<10 { #expect(mass.failed(old, now: at(12)) == .doNothing) }
        #expect(mass.mass == 0)
    }

    @Test func `the pause doubles with each withdrawal up to maxPause`() throws {
        var (mass, _) = try mass("withdrawn")
        var now = 10.0
        for pause in [20.0, 40, 60, 60, 60] {
            #expect(mass.tick(now: at(now)) == .announce)
            let probe = try ticket(&mass, now)
            #expect(mass.failed(probe, now: at(now)) == .withdraw(until: at(now + pause), mass: mass.mass))
            now += pause
        }
    }

    @Test func `a pause longer than maxPause is not shortened`() throws {
        var mass = ErrorMass(limit: 1, pause: .seconds(10), maxPause: .seconds(5))
        let request = try ticket(&mass)
        #expect(mass.failed(request, now: at(0)) == .withdraw(until: at(10), mass: 1))
    }

    @Test func `a slow probe restores the service, and its later failure withdraws it`() throws {
        var (mass, probe) = try mass("probing")
        #expect(mass.tick(now: at(15)) == .restore)
        #expect(mass.state == .serving)
        #expect(mass.mass == 3)
        guard case .withdraw(_, mass: 4) = mass.failed(probe, now: at(40)) else {
            Issue.record("the probe failed, and nothing was withdrawn")
            return
        }
    }
}
