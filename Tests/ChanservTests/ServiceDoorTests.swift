import Testing

@testable import Chanserv

/// Every state of the door with every event.
@Suite struct ServiceDoorTests {
    typealias State = ServiceDoor.State
    typealias Action = ServiceDoor.Action

    enum Event: CaseIterable {
        case withdraw
        case withdrawUnbound
        case restore
        case emptied
        case stop
    }

    private static let states: [State] = [.open, .closing, .reopening, .closed, .stopped]

    private func door(in state: State) -> ServiceDoor {
        var door = ServiceDoor()
        switch state {
        case .open: break
        case .closing: _ = door.withdraw(isBound: true)
        case .reopening:
            _ = door.withdraw(isBound: true)
            _ = door.restore()
        case .closed:
            _ = door.withdraw(isBound: true)
            _ = door.emptied()
        case .stopped: _ = door.stop()
        }
        return door
    }

    private func expected(_ state: State, _ event: Event) -> (State, Action) {
        switch (state, event) {
        case (.open, .withdraw): (.closing, .finishListener)
        case (.open, .withdrawUnbound): (.closed, .doNothing)
        case (.open, .restore), (.open, .emptied): (.open, .doNothing)
        case (.open, .stop): (.stopped, .closeListener)

        case (.closing, .withdraw), (.closing, .withdrawUnbound): (.closing, .doNothing)
        case (.closing, .restore): (.reopening, .doNothing)
        case (.closing, .emptied): (.closed, .doNothing)
        case (.closing, .stop): (.stopped, .closeListener)

        case (.reopening, .withdraw), (.reopening, .withdrawUnbound): (.closing, .doNothing)
        case (.reopening, .restore): (.reopening, .doNothing)
        case (.reopening, .emptied): (.open, .bind)
        case (.reopening, .stop): (.stopped, .closeListener)

        case (.closed, .withdraw), (.closed, .withdrawUnbound), (.closed, .emptied): (.closed, .doNothing)
        case (.closed, .restore): (.open, .bind)
        case (.closed, .stop): (.stopped, .doNothing)

        case (.stopped, _): (.stopped, .doNothing)
        }
    }

    @Test(arguments: states, Event.allCases)
    func everyEventInEveryState(state: State, event: Event) {
        var door = door(in: state)
        #expect(door.state == state)
        let action =
            switch event {
            case .withdraw: door.withdraw(isBound: true)
            case .withdrawUnbound: door.withdraw(isBound: false)
            case .restore: door.restore()
            case .emptied: door.emptied()
            case .stop: door.stop()
            }
        let (next, wanted) = expected(state, event)
        #expect(door.state == next)
        #expect(action == wanted)
        #expect(door.isFinishing == (next == .closing || next == .reopening))
    }
}
