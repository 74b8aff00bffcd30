import AstraNet
import Testing

/// The two ends of a pushed stream (docs/protocol.md §6).
@Suite struct PushedStreamStateTests {
    /// A named state and the events that lead to it. The granted window is 100 bytes.
    enum Start: String, CaseIterable, Sendable {
        // The server's end: offered; the window is used up and 5 bytes are queued; the same with a close behind the
        // bytes; a close was sent; a failure was sent.
        case offered, offeredFull, offeredClosing, offeredClosed, offeredFailed
        // The client's end: not taken; not taken and received in full; declined.
        case received, receivedWhole, declined

        var state: StreamState {
            let offered = StreamState.pushing(window: 100)
            let full = StreamState(offered, .enqueue(105), .sent(100))
            let received = StreamState.pushed(window: 100)
            return switch self {
            case .offered: offered
            case .offeredFull: full
            case .offeredClosing: StreamState(full, .close)
            case .offeredClosed: StreamState(offered, .close, .takeEnding)
            case .offeredFailed: StreamState(offered, .fail, .takeEnding)
            case .received: received
            case .receivedWhole: StreamState(received, .data(100), .fin1, .fin2)
            case .declined: StreamState(received, .close)
            }
        }
    }

    /// An event and its result in each state, in the order of ``Start``.
    static let rows: [(event: StreamEvent, answers: String)] = [
        (.syn, "resumeSending, resumeSending, resumeSending, forget, forget, doNothing, doNothing, doNothing"),
        (.accept, "false, false, false, false, false, true, true, true"),
        (.ack, "doNothing, doNothing, doNothing, doNothing, doNothing, doNothing, doNothing, doNothing"),
        (.data(100), "deliver, deliver, drop, drop, drop, deliver, drop, drop"),
        (.data(101), "deliver, deliver, drop, drop, drop, failStream, drop, drop"),
        (.data(65_537), "failStream, failStream, drop, drop, drop, failStream, drop, drop"),
        (
            .rewind(100),
            "failStream, resumeSending, resumeSending, failStream, failStream, failStream, doNothing, failStream"
        ),
        (.windowSize(1_000), "doNothing, doNothing, doNothing, doNothing, doNothing, doNothing, doNothing, doNothing"),
        (.fin1, "notify, notify, notify, forget, forget, notify, doNothing, notify"),
        (.fin2, "notify, notify, doNothing, doNothing, doNothing, notify, doNothing, doNothing"),
        (.err, "forget, forget, forget, forget, forget, forget, doNothing, forget"),
        (.enqueue(1), "queued, queued, closed, closed, closed, queued, closed by peer, closed"),
        (.finish, "flush, flush, doNothing, doNothing, doNothing, flush, doNothing, doNothing"),
        (.close, "flush, flush, doNothing, doNothing, doNothing, flush, doNothing, doNothing"),
        (.fail, "flush, flush, doNothing, flush, flush, flush, doNothing, doNothing"),
        (.abort, "flush, flush, doNothing, flush, flush, flush, doNothing, doNothing"),
        (.takeEnding, "wait, wait, wait, wait, wait, wait, wait, sendFin1AndFin2AndForget"),
        (.takeCredit, "0, 0, 0, 0, 0, 0, 0, 0"),
    ]

    @Test(arguments: rows)
    func `every event has the expected result in every state`(event: StreamEvent, answers: String) {
        let answers = answers.split(separator: ", ").map(String.init)
        #expect(answers.count == Start.allCases.count)
        for (start, expected) in zip(Start.allCases, answers) {
            var state = start.state
            let answer = "\(event.apply(to: &state))".prefix { $0 != "(" }
            #expect(answer == expected, "\(event) while \(start)")
        }
    }

    @Test func `a server sends within the granted window, and within 65,536 bytes after SYN`() throws {
        var state = StreamState.pushing(window: 16_384)
        try state.enqueue(100_000)
        #expect(state.sendable == 16_384)
        state.sent(16_384)
        #expect(state.sendable == 0)
        // The client may not change the window before its SYN.
        #expect(state.receivedWindowSize(1 << 20) == .doNothing)
        #expect(state.sendable == 0)
        #expect(state.receivedSyn() == .resumeSending)
        #expect(state.wasAccepted && state.offer == .none)
        #expect(state.sendable == 65_536 - 16_384)
        state.sent(65_536 - 16_384)
        #expect(state.receivedRewind(65_536) == .resumeSending)
        #expect(state.sendable == 100_000 - 65_536)
        #expect(state.receivedSyn() == .doNothing, "a second SYN changes nothing")
        #expect(state.sendable == 100_000 - 65_536)
    }

    @Test(arguments: [0, 1, 65_536, 65_537, UInt32.max])
    func `a granted window above 65,536 bytes counts as 65,536`(window: UInt32) throws {
        var server = StreamState.pushing(window: window)
        try server.enqueue(100_000)
        let bound = Int(min(window, 65_536))
        #expect(server.sendable == bound)
        var client = StreamState.pushed(window: window)
        #expect(client.receivedData(bound + 1) != .deliver)
        #expect(bound == 0 || client.receivedData(bound) == .deliver)
    }

    @Test func `a client receives within the granted window, and within 65,536 bytes after acceptance`() {
        var state = StreamState.pushed(window: 100)
        #expect(state.receivedData(100) == .deliver)
        #expect(state.accept() == true)
        #expect(state.accept() == false, "a second acceptance does nothing")
        #expect(state.receivedData(65_437) != .deliver)
        #expect(state.receivedData(65_436) == .deliver)
        state.took(65_536)
        #expect(state.takeCredit() == 65_536)
    }

    @Test func `a source that has already ended is still accepted`() {
        var state = StreamState(.pushed(window: 100), .data(7), .fin1, .fin2)
        #expect(state.phase == .ended && state.reading == .finished)
        #expect(state.accept() == true, "the server keeps it until the SYN")
        #expect(state.accept() == false)
        state.took(7)
        #expect(state.takeCredit() == 0)
        var failed = StreamState(.pushed(window: 100), .data(7), .err)
        #expect(failed.accept() == true)
        #expect(failed.reading.error == StreamEvent.failure)
    }

    @Test(arguments: [StreamEvent.close, .fail])
    func `a server keeps an ended source until the client accepts or declines it`(ending: StreamEvent) {
        let kept = StreamState(.pushing(window: 100), .enqueue(5), .sent(5), ending, .takeEnding)
        #expect(kept.isKept && kept.phase == .open)
        for answer in [StreamEvent.syn, .fin1, .err] {
            var state = StreamState(kept, answer)
            #expect(state.phase == .ended && state.offer == .none && !state.isKept, "\(answer)")
            #expect(state.wasAccepted == (answer == .syn), "\(answer)")
            #expect(state.takeEnding() == .wait, "\(answer)")
        }
        // FIN2 alone does not decline a source.
        #expect(StreamState(kept, .fin2).isKept)
        #expect(StreamState(kept, .fin2, .syn).phase == .ended)
        #expect(StreamState(kept, .close, .finish, .takeEnding).isKept)
    }

    @Test func `an early FIN2 of the client does not make the server keep a source forever`() {
        for answer in [StreamEvent.syn, .fin1, .err] {
            let state = StreamState(.pushing(window: 100), .fin2, .close, .takeEnding, answer)
            #expect(state.phase == .ended, "\(answer)")
        }
    }

    @Test func `a server that fails a kept source sends ERR and forgets it`() {
        for giveUp in [StreamEvent.fail, .abort] {
            var state = StreamState(.pushing(window: 100), .close, .takeEnding, giveUp)
            #expect(state.offer == .none)
            let message = giveUp == .fail ? "no more" : "too slow"
            #expect(state.takeEnding() == .sendErrAndForget(message: message))
            #expect(state.phase == .ended)
        }
        // A SYN that crosses the ERR changes nothing.
        var state = StreamState(.pushing(window: 100), .close, .takeEnding, .fail, .syn)
        #expect(state.takeEnding() == .sendErrAndForget(message: "no more"))
    }

    @Test func `an aborted offered source loses its bytes and is kept, and a later failure ends it`() {
        var state = StreamState(.pushing(window: 100), .enqueue(105), .sent(100), .close, .abort)
        #expect(state.queued == 0)
        #expect(state.takeEnding() == .sendErr(message: "too slow"))
        #expect(state.isKept)
        #expect(state.end(.fail(message: "enough")) == .flush)
        #expect(state.takeEnding() == .sendErrAndForget(message: "enough"))
        var whole = StreamState(.pushing(window: 100), .enqueue(5), .sent(5), .close, .abort)
        #expect(whole.takeEnding() == .sendFin1AndFin2, "all bytes are in flight")
    }

    @Test func `a close waits for bytes that may be sent only after acceptance`() {
        var state = StreamState(.pushing(window: 100), .enqueue(105), .sent(100), .close)
        #expect(state.takeEnding() == .wait)
        #expect(!state.isLingering, "an offered stream has the accept timeout")
        #expect(state.receivedSyn() == .resumeSending)
        #expect(state.isLingering)
        state.sent(5)
        #expect(state.takeEnding() == .sendFin1AndFin2AndForget)
    }

    @Test func `a source that the client closes ends at the server`() throws {
        var state = StreamState(.pushing(window: 100), .enqueue(105), .sent(100))
        #expect(state.receivedFin1() == .notify)
        #expect(state.offer == .none && state.queued == 0 && state.isPeerClosed)
        #expect(state.receivedFin2() == .forget)
        #expect(!state.wasAccepted)
        #expect(throws: AstraNetError.self) { try state.enqueue(1) }
    }

    @Test func `a lost link ends an offered source at the server`() {
        var state = StreamState(.pushing(window: 100), .close, .takeEnding)
        #expect(state.fail(AstraNetError(.linkLost, "")) == .forget)
        #expect(state.offer == .none && !state.wasAccepted)
    }
}
