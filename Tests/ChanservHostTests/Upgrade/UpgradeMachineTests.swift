import ChanservHost
import Testing

@Suite struct UpgradeMachineTests {
    @Test func `a process that was started takes over`() {
        var machine = UpgradeMachine()
        #expect(machine.requested() == nil)
        machine.started(7)
        #expect(machine.phase == .preparing(7) && machine.successor == nil)
        #expect(machine.askedToHandOver(by: 7) == nil)
        #expect(machine.successor == 7)
        #expect(machine.finished(7) == true)
    }

    @Test func `a process may take over before its id is known`() {
        var machine = UpgradeMachine()
        #expect(machine.requested() == nil)
        #expect(machine.askedToHandOver(by: 7) == nil)
        machine.started(7)
        #expect(machine.finished(7) == true)
    }

    @Test func `a process that an operator started takes over`() {
        var machine = UpgradeMachine()
        #expect(machine.askedToHandOver(by: 7) == nil)
        #expect(machine.successor == 7)
        #expect(machine.requested() == "process 7 has taken over already")
    }

    @Test func `a second upgrade is refused while one is in progress`() {
        var machine = UpgradeMachine()
        #expect(machine.requested() == nil)
        #expect(machine.requested() == "an upgrade is in progress")
        machine.started(7)
        #expect(machine.requested() == "an upgrade is in progress")
    }

    @Test func `after a failed start the next upgrade is possible`() {
        var machine = UpgradeMachine()
        #expect(machine.requested() == nil)
        machine.started(nil)
        #expect(machine.phase == .serving)
        #expect(machine.requested() == nil)
        machine.started(7)
        #expect(machine.finished(7) == false)
        #expect(machine.phase == .serving && machine.requested() == nil)
    }

    @Test func `a late request of a process that was given up is refused`() {
        var machine = UpgradeMachine()
        #expect(machine.requested() == nil)
        machine.started(7)
        #expect(machine.finished(7) == false)
        #expect(machine.askedToHandOver(by: 7) == "process 7 took too long and was given up")
        #expect(machine.successor == nil)
        #expect(machine.askedToHandOver(by: 8) == nil)
    }

    @Test func `of two processes only one takes over`() {
        var machine = UpgradeMachine()
        #expect(machine.requested() == nil)
        machine.started(7)
        #expect(machine.askedToHandOver(by: 8) == "process 7 is taking over")
        #expect(machine.askedToHandOver(by: 7) == nil)
        #expect(machine.askedToHandOver(by: 8) == "process 7 has taken over already")
        #expect(machine.finished(8) == false)
        #expect(machine.successor == 7)
    }
}
