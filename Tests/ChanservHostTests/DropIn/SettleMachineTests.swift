import ChanservHost
import Testing

@Suite struct SettleMachineTests {
    private let start = ContinuousClock.now

    private func machine() -> SettleMachine {
        SettleMachine(settle: .milliseconds(500), maxSettle: .seconds(2))
    }

    @Test func `the folder is read after it has been quiet`() {
        var machine = machine()
        #expect(machine.changed(at: start) == .wait(until: start + .milliseconds(500)))
        #expect(machine.timerFired(at: start + .milliseconds(500)) == .read)
        #expect(machine.timerFired(at: start + .seconds(1)) == .doNothing)
    }

    @Test func `each change restarts the wait`() {
        var machine = machine()
        #expect(machine.changed(at: start) == .wait(until: start + .milliseconds(500)))
        let later = start + .milliseconds(400)
        #expect(machine.changed(at: later) == .wait(until: later + .milliseconds(500)))
        #expect(machine.timerFired(at: start + .milliseconds(500)) == .wait(until: later + .milliseconds(500)))
        #expect(machine.timerFired(at: later + .milliseconds(500)) == .read)
    }

    @Test func `the creation of a file counts alone only after the maximum`() {
        var machine = machine()
        #expect(machine.mayHaveChanged(at: start) == .wait(until: start + .seconds(2)))
        let written = start + .milliseconds(100)
        #expect(machine.changed(at: written) == .wait(until: written + .milliseconds(500)))
        #expect(machine.mayHaveChanged(at: written + .milliseconds(10)) == .doNothing)
    }

    @Test func `a folder that never rests is read at the latest after the maximum`() {
        var machine = machine()
        for step in 0..<5 {
            let now = start + .milliseconds(400 * step)
            #expect(machine.changed(at: now) == .wait(until: min(now + .milliseconds(500), start + .seconds(2))))
        }
        #expect(machine.changed(at: start + .milliseconds(2_100)) == .read)
    }
}
