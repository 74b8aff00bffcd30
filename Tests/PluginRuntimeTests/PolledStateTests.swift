import PluginRuntime
import Testing

@Suite("Polled state")
struct PolledStateTests {
    /// A model of the shell and the plugin. It is independent of the machine and checks the machine's actions.
    private struct World: Hashable {
        var state = PolledState()
        var isPolling = false
        var isCancelling = false
        var cancels = 0
        var closes = 0
        var isOver: Bool { closes > 0 }
    }

    private enum Event: CaseIterable {
        case beginPoll, pollReady, pollPending, pollFinished, wake, cancel, cancelReturned, requestClose, terminate
    }

    /// Applies an event and checks each action against the rules of chanserv_plugin.h.
    ///
    /// - Returns: the next world; `nil` if the shell cannot cause the event now.
    private func step(_ world: World, _ event: Event) -> World? {
        var next = world
        switch event {
        case .beginPoll:
            guard !world.isPolling else { return nil }
            switch next.state.beginPoll() {
            case .poll:
                #expect(!world.isOver && world.cancels == 0, "a poll after a cancel or the close: \(world)")
                next.isPolling = true
            case .wait:
                #expect(world.state.phase == .pending)
            case .reportEnd:
                #expect(world.state.phase == .finished)
            case .reportStop:
                #expect(world.cancels > 0 || world.state.isCloseRequested)
            }
        case .pollReady, .pollPending, .pollFinished:
            guard world.isPolling else { return nil }
            next.isPolling = false
            let outcome: PolledState.Outcome =
                event == .pollReady ? .ready : event == .pollPending ? .pending : .finished
            close(next.state.pollReturned(outcome), &next)
        case .wake:
            _ = next.state.receivedWake()
        case .cancel:
            if next.state.receivedCancel() == .callCancel { cancel(&next) }
        case .cancelReturned:
            guard world.isCancelling else { return nil }
            next.isCancelling = false
            close(next.state.cancelReturned(), &next)
        case .requestClose:
            close(next.state.requestClose(), &next)
        case .terminate:
            // The shell does both in one step.
            if next.state.receivedCancel() == .callCancel { cancel(&next) }
            close(next.state.requestClose(), &next)
        }
        return next
    }

    private func cancel(_ world: inout World) {
        #expect(!world.isOver, "cancel after close: \(world)")
        #expect(world.cancels == 0, "a second cancel: \(world)")
        world.cancels += 1
        world.isCancelling = true
    }

    private func close(_ action: PolledState.CloseAction, _ world: inout World) {
        guard action == .close else { return }
        #expect(!world.isPolling, "close overlaps a poll: \(world)")
        #expect(!world.isCancelling, "close overlaps a cancel: \(world)")
        #expect(world.closes == 0, "a second close: \(world)")
        #expect(world.state.isCloseRequested)
        world.closes += 1
    }

    private func reachable() -> Set<World> {
        var found: Set<World> = [World()]
        var open = [World()]
        while let world = open.popLast() {
            for event in Event.allCases {
                guard let next = step(world, event), found.insert(next).inserted else { continue }
                open.append(next)
            }
        }
        return found
    }

    @Test func `every event in every state keeps the rules of the header`() {
        let states = reachable()
        #expect(states.count > 20)
        #expect(Set(states.map(\.state.phase)).count == 6)
    }

    @Test func `a requested close leads to exactly one close from every state`() {
        for world in reachable() {
            for lastOutcome in [Event.pollReady, .pollPending, .pollFinished] {
                var end = step(world, .requestClose)!
                if let next = step(end, lastOutcome) { end = next }
                if let next = step(end, .cancelReturned) { end = next }
                #expect(end.closes == 1, "\(world) was never closed")
                #expect(end.state.phase == .closed)
            }
        }
    }

    @Test func `a termination leads to exactly one close from every state`() {
        for world in reachable() {
            for lastOutcome in [Event.pollReady, .pollPending, .pollFinished] {
                for cancelFirst in [true, false] {
                    var end = step(world, .terminate)!
                    for event in cancelFirst ? [.cancelReturned, lastOutcome] : [lastOutcome, .cancelReturned] {
                        if let next = step(end, event) { end = next }
                    }
                    #expect(end.closes == 1, "\(world) was never closed")
                }
            }
        }
    }

    @Test func `a termination cancels a running poll`() {
        for world in reachable() where world.isPolling {
            let end = step(world, .terminate)!
            #expect(end.cancels == 1)
        }
    }

    @Test func `a wake during a poll is not lost`() {
        var state = PolledState()
        let step1 = state.beginPoll()
        #expect(step1 == .poll)
        let step2 = state.receivedWake()
        #expect(step2 == .doNothing)
        let step3 = state.pollReturned(.pending)
        #expect(step3 == .doNothing)
        #expect(state.phase == .idle)
        let step4 = state.beginPoll()
        #expect(step4 == .poll)
        // The wake counted for that one PENDING only.
        let step5 = state.pollReturned(.pending)
        #expect(step5 == .doNothing)
        let step6 = state.beginPoll()
        #expect(step6 == .wait)
        #expect(state.phase == .pending)
    }

    @Test func `a wake between a poll and the wait is not lost`() {
        var state = PolledState()
        _ = state.beginPoll()
        _ = state.pollReturned(.pending)
        let step7 = state.beginPoll()
        #expect(step7 == .wait)
        let step8 = state.receivedWake()
        #expect(step8 == .resume)
        let step9 = state.beginPoll()
        #expect(step9 == .poll)
    }

    @Test func `a wake of an object that does not wait does nothing`() {
        var state = PolledState()
        let step10 = state.receivedWake()
        #expect(step10 == .doNothing)
        #expect(state == PolledState())
        _ = state.beginPoll()
        _ = state.pollReturned(.finished)
        let step11 = state.receivedWake()
        #expect(step11 == .doNothing)
        let step12 = state.beginPoll()
        #expect(step12 == .reportEnd)
        let step13 = state.requestClose()
        #expect(step13 == .close)
        let step14 = state.receivedWake()
        #expect(step14 == .doNothing)
        #expect(state.phase == .closed)
    }

    @Test func `a cancel ends a wait`() {
        var state = PolledState()
        _ = state.beginPoll()
        _ = state.pollReturned(.pending)
        let step15 = state.receivedCancel()
        #expect(step15 == .callCancel)
        let step16 = state.beginPoll()
        #expect(step16 == .reportStop)
    }

    @Test func `a finished object is not cancelled`() {
        var state = PolledState()
        _ = state.beginPoll()
        _ = state.pollReturned(.finished)
        let step17 = state.receivedCancel()
        #expect(step17 == .doNothing)
    }
}
