import ChanservHost
import Testing

@Suite struct ReloadMachineTests {
    @Test func `a request while idle begins a reload`() {
        var machine = ReloadMachine()
        equal(machine.requested(), .begin(1))
        #expect(machine.state == .running(1))
        equal(machine.finished(), .rest)
        #expect(machine.state == .idle)
        equal(machine.requested(), .begin(2))
    }

    @Test func `requests during a reload become exactly one more reload`() {
        var machine = ReloadMachine()
        equal(machine.requested(), .begin(1))
        for _ in 0..<100 { equal(machine.requested(), .awaitReload(2)) }
        #expect(machine.state == .runningAndAgain(1))
        equal(machine.finished(), .begin(2))
        #expect(machine.state == .running(2))
        equal(machine.finished(), .rest)
    }

    @Test func `a request during the second reload begins a third one`() {
        var machine = ReloadMachine()
        _ = machine.requested()
        _ = machine.requested()
        equal(machine.finished(), .begin(2))
        equal(machine.requested(), .awaitReload(3))
        equal(machine.finished(), .begin(3))
        equal(machine.finished(), .rest)
    }

    @Test func `stopping while idle takes effect at once and refuses reloads`() {
        var machine = ReloadMachine()
        #expect(!machine.isStopping)
        equal(machine.stop(), .stop)
        #expect(machine.state == .stopped && machine.isStopping)
        equal(machine.requested(), .refuse)
        equal(machine.stop(), .doNothing)
    }

    @Test(arguments: [1, 2]) func `stopping during a reload waits for its end and drops the next one`(requests: Int) {
        var machine = ReloadMachine()
        for _ in 0..<requests { _ = machine.requested() }
        equal(machine.stop(), .giveUp(1))
        #expect(machine.state == .stopping(1) && machine.isStopping)
        equal(machine.requested(), .refuse)
        equal(machine.stop(), .doNothing)
        equal(machine.finished(), .stop)
        #expect(machine.state == .stopped)
    }
}
