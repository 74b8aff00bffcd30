import Testing

@testable import AstraNet

/// Every state a stream can come into with bytes in steps of half a window, and what must hold in all of them.
@Suite struct StreamStateExplorationTests {
    private static let half = 32_768

    private static func events(in state: StreamState) -> [StreamEvent] {
        var events: [StreamEvent] = [
            .syn, .ack, .fin1, .fin2, .err, .finish, .close, .fail, .takeEnding, .takeCredit, .data(half),
            .data(65_537), .rewind(UInt32(half)), .windowSize(0), .windowSize(65_536), .windowSize(131_072),
        ]
        if state.queued <= 2 * half { events.append(.enqueue(half)) }
        if state.sendable >= half { events.append(.sent(half)) }
        if state.receiveWindow.unread >= UInt32(half) { events.append(.take(half)) }
        return events
    }

    /// All reachable states, each with the events that lead there.
    static let reachable: [StreamState: [StreamEvent]] = {
        var found: [StreamState: [StreamEvent]] = [
            .dialer(): [], .listener(): [], .dialer(isEager: true): [], .listener(isEager: true): [],
        ]
        var frontier = Array(found.keys)
        while let state = frontier.popLast() {
            for event in events(in: state) {
                var next = state
                _ = event.apply(to: &next)
                guard found[next] == nil else { continue }
                found[next] = found[state]! + [event]
                frontier.append(next)
            }
        }
        return found
    }()

    /// Calls `body` for every step from every reachable state.
    private func forEveryStep(_ body: (StreamState, StreamEvent, StreamState, AnyHashable) -> Bool) async {
        var broken: [String] = []
        for state in Self.reachable.keys {
            // The other tests' turn: they wait for the network.
            await Task.yield()
            for event in Self.events(in: state) {
                var next = state
                let answer = event.apply(to: &next)
                if !body(state, event, next, answer), broken.count < 3 {
                    broken.append("\(Self.reachable[state]!) then \(event) answered \(answer)")
                }
            }
        }
        #expect(broken == [])
    }

    @Test func theExplorationGoesFar() {
        #expect(Self.reachable.count > 1_000)
        #expect(Set(Self.reachable.keys.map(\.phase)) == [.dialing, .accepting, .open, .ended])
    }

    @Test func creditNeverExceedsTheWindow() async {
        await forEveryStep { old, event, new, _ in
            let sent = new.sendWindow.inFlight > old.sendWindow.inFlight
            return (!sent || new.sendWindow.inFlight <= new.sendWindow.limit)
                && new.receiveWindow.unread + new.receiveWindow.owed <= 65_536
                && new.sendable <= new.sendWindow.available && new.sendable <= new.queued && new.queued >= 0
        }
    }

    @Test func anEndedStreamStaysAsItIs() async {
        await forEveryStep { old, event, new, answer in
            guard old.phase == .ended else { return true }
            switch event {
            case .take: return new.receiveWindow.unread + UInt32(Self.half) == old.receiveWindow.unread
            case .enqueue: return new == old && answer is AstraNetError.Code
            case .takeCredit: return new == old && answer == AnyHashable(UInt32(0))
            default: return new == old && ["doNothing", "drop", "wait"].contains("\(answer)")
            }
        }
    }

    @Test func phasesOnlyGoForward() async {
        await forEveryStep { old, _, new, _ in
            switch (old.phase, new.phase) {
            case (.dialing, .accepting), (.accepting, .dialing), (.open, .dialing), (.open, .accepting): false
            case (.ended, .ended): true
            case (.ended, _): false
            default: true
            }
        }
    }

    @Test func howAReadEndsIsSaidOnce() async {
        await forEveryStep { old, _, new, _ in old.reading == .open || new.reading == old.reading }
    }

    @Test func aWriteSideThatIsOverNeverOpensAgain() async {
        await forEveryStep { old, _, new, _ in
            old.writing == .open || new.writing != .open
        }
    }

    @Test func bytesAreDeliveredOnlyToAnOpenReaderAndNeverLost() async {
        await forEveryStep { old, event, new, answer in
            guard case .data(let count) = event else {
                if case .take = event { return true }
                return new.receiveWindow.unread == old.receiveWindow.unread
            }
            let isDelivered = answer == AnyHashable(StreamState.ReceivedDataAction.deliver)
            return isDelivered
                ? old.reading == .open && new.receiveWindow.unread == old.receiveWindow.unread + UInt32(count)
                : new == old
        }
    }

    @Test func aStreamIsForgottenExactlyWhenItEnds() async {
        await forEveryStep { old, event, new, answer in
            let ends = old.phase != .ended && new.phase == .ended
            switch event {
            case .syn, .ack, .data, .rewind, .windowSize, .take, .takeCredit, .enqueue, .sent, .finish, .close, .fail:
                return !ends
            case .fin1, .fin2, .err:
                return ends == (answer == AnyHashable(StreamState.PeerEndAction.forget))
            case .takeEnding:
                let forgets = answer as? StreamState.EndingStep
                return ends == (forgets != .wait && forgets != .sendFin2)
            }
        }
    }

    @Test func whatAPeerDidWrongChangesNothing() async {
        await forEveryStep { old, _, new, answer in
            if case .failStream = answer as? StreamState.ReceivedCreditAction { return new == old }
            if case .failStream = answer as? StreamState.ReceivedDataAction { return new == old }
            return true
        }
    }

    @Test func aClosedStreamEndsAsSoonAsItsBytesAreGoneOrUnwanted() {
        for state in Self.reachable.keys where state.phase != .ended {
            var read = state
            _ = read.end(.close)
            var stopped = read
            _ = read.receivedWindowSize(.max)
            if read.sendable > 0 { read.sent(read.sendable) }
            if read.phase == .open || read.queued == 0 { _ = read.takeEnding() }
            #expect(read.phase == .ended, "\(Self.reachable[state]!)")
            _ = stopped.receivedFin1()
            _ = stopped.takeEnding()
            #expect(stopped.phase == .ended, "\(Self.reachable[state]!)")
        }
    }

    @Test func aStreamSaidToEndWellWasReadWhole() async {
        // A reader sees `finished` only through FIN2, and what came before it is still there to be read.
        await forEveryStep { old, event, new, _ in
            guard new.reading == .finished, old.reading != .finished else { return true }
            return event == .fin2 && new.receiveWindow == old.receiveWindow
        }
    }
}
