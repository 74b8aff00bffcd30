import AstraNet
import Testing

/// Invariants of every state that a stream can reach with bytes in steps of half a window.
@Suite struct StreamStateExplorationTests {
    private static let half = 32_768

    private static func events(in state: StreamState) -> [StreamEvent] {
        var events: [StreamEvent] = [
            .syn, .ack, .fin1, .fin2, .err, .finish, .close, .fail, .takeEnding, .takeCredit, .data(half),
            .data(65_537), .rewind(UInt32(half)), .windowSize(0), .windowSize(65_536), .windowSize(131_072), .accept,
            .abort,
        ]
        if state.queued <= 2 * half { events.append(.enqueue(half)) }
        if state.sendable >= half { events.append(.sent(half)) }
        if state.receiveWindow.unread >= UInt32(half) { events.append(.take(half)) }
        return events
    }

    /// All reachable states, each with a sequence of events that leads to it.
    static let reachable: [StreamState: [StreamEvent]] = {
        var found: [StreamState: [StreamEvent]] = [
            .dialer(): [], .listener(): [], .dialer(isEager: true): [], .listener(isEager: true): [],
            .pushing(window: UInt32(half)): [], .pushed(window: UInt32(half)): [],
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

    /// Calls `body` for every event in every reachable state. Records the steps for which it returns `false`.
    private func forEveryStep(_ body: (StreamState, StreamEvent, StreamState, AnyHashable) -> Bool) async {
        var broken: [String] = []
        for state in Self.reachable.keys {
            // Lets other tests run: they wait for the network.
            await Task.yield()
            for event in Self.events(in: state) {
                var next = state
                let answer = event.apply(to: &next)
                if !body(state, event, next, answer), broken.count < 3 {
                    broken.append("\(Self.reachable[state]!) then \(event) returned \(answer)")
                }
            }
        }
        #expect(broken == [])
    }

    @Test func `the exploration reaches all phases and more than 1,000 states`() {
        #expect(Self.reachable.count > 1_000)
        #expect(Set(Self.reachable.keys.map(\.phase)) == [.dialing, .accepting, .open, .ended])
        #expect(Set(Self.reachable.keys.map(\.offer)) == [.none, .made, .received])
        #expect(Self.reachable.keys.contains { $0.isKept })
    }

    @Test func `sent and received bytes never exceed the window`() async {
        await forEveryStep { old, event, new, _ in
            let sent = new.sendWindow.inFlight > old.sendWindow.inFlight
            return (!sent || new.sendWindow.inFlight <= new.sendWindow.limit)
                && new.receiveWindow.unread + new.receiveWindow.owed <= 65_536
                && new.sendable <= new.sendWindow.available && new.sendable <= new.queued && new.queued >= 0
        }
    }

    @Test func `an ended stream does not change`() async {
        await forEveryStep { old, event, new, answer in
            guard old.phase == .ended else { return true }
            switch event {
            case .take: return new.receiveWindow.unread + UInt32(Self.half) == old.receiveWindow.unread
            case .enqueue: return new == old && answer is AstraNetError.Code
            case .takeCredit: return new == old && answer == AnyHashable(UInt32(0))
            case .accept:
                // The consumer takes an ended source too, and the server gets its SYN.
                return answer == AnyHashable(old.offer == .received) && new.phase == .ended && new.offer == .none
                    && new.reading == old.reading && new.writing == old.writing
            default: return new == old && ["doNothing", "drop", "wait"].contains("\(answer)")
            }
        }
    }

    @Test func `phases only move forward`() async {
        await forEveryStep { old, _, new, _ in
            switch (old.phase, new.phase) {
            case (.dialing, .accepting), (.accepting, .dialing), (.open, .dialing), (.open, .accepting): false
            case (.ended, .ended): true
            case (.ended, _): false
            default: true
            }
        }
    }

    @Test func `the end of reading is set once`() async {
        await forEveryStep { old, _, new, _ in old.reading == .open || new.reading == old.reading }
    }

    @Test func `an ended write side never opens again`() async {
        await forEveryStep { old, _, new, _ in
            old.writing == .open || new.writing != .open
        }
    }

    @Test func `bytes are delivered only to an open reader and never lost`() async {
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

    @Test func `a stream is forgotten exactly when it ends`() async {
        await forEveryStep { old, event, new, answer in
            let ends = old.phase != .ended && new.phase == .ended
            switch event {
            case .ack, .data, .rewind, .windowSize, .take, .takeCredit, .enqueue, .sent, .finish, .close, .fail,
                .accept,
                .abort:
                return !ends
            case .syn: return ends == (answer == AnyHashable(StreamState.ReceivedSynAction.forget))
            case .fin1, .fin2, .err:
                return ends == (answer == AnyHashable(StreamState.PeerEndAction.forget))
            case .takeEnding:
                switch answer as? StreamState.EndingStep {
                case .sendFin1AndFin2AndForget, .sendErrAndForget: return ends
                case .wait, .sendFin2, .sendFin1AndFin2, .sendErr: return !ends
                case nil: return false
                }
            }
        }
    }

    @Test func `a pushed stream carries at most the granted window before its acceptance`() async {
        await forEveryStep { old, _, new, _ in
            let sends = new.sendWindow.inFlight > old.sendWindow.inFlight
            return (new.offer != .made || new.sendWindow.inFlight <= Self.half && new.sendWindow.limit == Self.half)
                && (new.offer != .received || new.receiveWindow.unread + new.receiveWindow.owed <= UInt32(Self.half))
                && (!sends || new.sendWindow.inFlight <= new.sendWindow.limit)
        }
    }

    @Test func `acceptance opens the window of 65,536 bytes and counts the bytes in flight`() async {
        await forEveryStep { old, event, new, answer in
            if event == .syn, old.offer == .made, old.phase == .open {
                return new.offer == .none && new.wasAccepted && new.sendWindow.limit == SendWindow.initialSize
                    && new.sendWindow.inFlight == old.sendWindow.inFlight
            }
            if event == .accept, old.offer == .received {
                return answer == AnyHashable(true) && new.offer == .none
                    && new.receiveWindow.limit == ReceiveWindow().limit
                    && new.receiveWindow.unread == old.receiveWindow.unread
            }
            return event != .accept || answer == AnyHashable(false) && new == old
        }
    }

    @Test func `an offer that has ended is never made again`() async {
        await forEveryStep { old, _, new, _ in new.offer == old.offer || new.offer == .none }
    }

    @Test func `an ended pushed stream is kept until SYN, FIN1, ERR or a local failure`() async {
        await forEveryStep { old, event, new, answer in
            guard old.isKept else {
                let step = answer as? StreamState.EndingStep
                let begins =
                    switch step {
                    case .sendFin1AndFin2, .sendErr: true
                    default: false
                    }
                return new.isKept == begins
            }
            switch event {
            case .syn: return new.phase == .ended && answer == AnyHashable(StreamState.ReceivedSynAction.forget)
            case .fin1, .err: return new.phase == .ended && answer == AnyHashable(StreamState.PeerEndAction.forget)
            case .fail, .abort:
                var last = new
                guard case .sendErrAndForget = last.takeEnding() else { return false }
                return new.phase == .open && last.phase == .ended
            case .finish, .close: return new == old
            default: return new.isKept && new.writing == old.writing && new.reading == old.reading
            }
        }
    }

    @Test func `a pushed stream ends at the server only by an op of the client or a local failure`() async {
        await forEveryStep { old, event, new, _ in
            guard old.offer == .made, old.phase == .open, new.phase == .ended else { return true }
            return [.syn, .fin1, .fin2, .err].contains(event)
        }
    }

    @Test func `a protocol violation changes no state`() async {
        await forEveryStep { old, _, new, answer in
            if case .failStream = answer as? StreamState.ReceivedCreditAction { return new == old }
            if case .failStream = answer as? StreamState.ReceivedDataAction { return new == old }
            return true
        }
    }

    @Test func `a closed stream ends when its bytes are sent or the peer drops them`() {
        for state in Self.reachable.keys where state.phase != .ended {
            var read = state
            _ = read.end(.close)
            var stopped = read
            _ = read.receivedWindowSize(.max)
            // A pushed stream needs the client's SYN.
            if read.offer == .made { _ = read.receivedSyn() }
            _ = read.receivedWindowSize(.max)
            if read.sendable > 0 { read.sent(read.sendable) }
            if read.phase == .open || read.queued == 0 { _ = read.takeEnding() }
            #expect(read.phase == .ended, "\(Self.reachable[state]!)")
            _ = stopped.receivedFin1()
            _ = stopped.takeEnding()
            #expect(stopped.phase == .ended, "\(Self.reachable[state]!)")
        }
    }

    @Test func `only FIN2 ends a stream well, and it keeps the unread bytes`() async {
        // `reading` becomes `finished` only by FIN2, and the bytes before it stay readable.
        await forEveryStep { old, event, new, _ in
            guard new.reading == .finished, old.reading != .finished else { return true }
            return event == .fin2 && new.receiveWindow == old.receiveWindow
        }
    }
}
