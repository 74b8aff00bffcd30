import AstraNet
import Testing

/// An event of a stream, as a value.
enum StreamEvent: Hashable, Sendable {
    case syn, ack, data(Int), rewind(UInt32), windowSize(UInt32), fin1, fin2, err
    case take(Int), takeCredit, enqueue(Int), sent(Int), finish, close, fail, takeEnding
    /// The consumer takes a pushed source; the server fails the stream and drops its queued bytes.
    case accept, abort

    static let failure = AstraNetError(.failedByPeer, "it broke")

    /// Applies the event and returns the action of the state.
    func apply(to state: inout StreamState) -> AnyHashable {
        switch self {
        case .syn: return state.receivedSyn()
        case .ack: return state.receivedAck()
        case .data(let count): return state.receivedData(count)
        case .rewind(let count): return state.receivedRewind(count)
        case .windowSize(let size): return state.receivedWindowSize(size)
        case .fin1: return state.receivedFin1()
        case .fin2: return state.receivedFin2()
        case .err: return state.fail(Self.failure)
        case .take(let count):
            state.took(count)
            return "taken"
        case .takeCredit: return state.takeCredit()
        case .enqueue(let count):
            do throws(AstraNetError) {
                try state.enqueue(count)
                return "queued"
            } catch {
                return error.code
            }
        case .sent(let count):
            state.sent(count)
            return "sent"
        case .finish: return state.end(.finish)
        case .close: return state.end(.close)
        case .fail: return state.end(.fail(message: "no more"))
        case .takeEnding: return state.takeEnding()
        case .accept: return state.accept()
        case .abort:
            state.dropQueued(saying: "too slow")
            return state.end(.fail(message: "too slow"))
        }
    }
}

extension StreamState {
    init(_ start: StreamState, _ events: StreamEvent...) {
        self = start
        for event in events { _ = event.apply(to: &self) }
    }
}

@Suite struct StreamStateTableTests {
    /// A named state and the events that lead to it.
    enum Start: String, CaseIterable, Sendable {
        case dialing, dialingClosed, accepting, acceptingClosed, open
        /// Eager opening: bytes follow the DIAL at once, and the listener's stream is open at once.
        case eagerDialing, eagerOpen
        /// Bytes wait for credit, with a local end behind them.
        case finishing, closing, failing
        case finished, peerFinished, peerStopped, bothFinished
        case endedByClose, endedByFailure, endedWell

        var state: StreamState {
            let open = StreamState(.dialer(), .syn)
            let full = StreamState(open, .enqueue(65_536), .sent(65_536), .enqueue(5))
            return switch self {
            case .dialing: .dialer()
            case .dialingClosed: StreamState(.dialer(), .close)
            case .accepting: .listener()
            case .acceptingClosed: StreamState(.listener(), .close)
            case .open: open
            case .eagerDialing: .dialer(isEager: true)
            case .eagerOpen: .listener(isEager: true)
            case .finishing: StreamState(full, .finish)
            case .closing: StreamState(full, .close)
            case .failing: StreamState(full, .fail)
            case .finished: StreamState(open, .finish, .takeEnding)
            case .peerFinished: StreamState(open, .fin2)
            case .peerStopped: StreamState(open, .fin1)
            case .bothFinished: StreamState(open, .fin2, .finish, .takeEnding)
            case .endedByClose: StreamState(open, .close, .takeEnding)
            case .endedByFailure: StreamState(open, .err)
            case .endedWell: StreamState(open, .fin2, .finish, .takeEnding, .close, .takeEnding)
            }
        }

        var isEnded: Bool { [.endedByClose, .endedByFailure, .endedWell].contains(self) }
    }

    /// An event with its result in most states, and the states with another result.
    struct Row: Sendable, CustomTestStringConvertible {
        var event: StreamEvent
        var usual: @Sendable () -> AnyHashable
        var except: @Sendable () -> [Start: AnyHashable]

        init(
            _ event: StreamEvent, _ usual: @autoclosure @escaping @Sendable () -> AnyHashable,
            except: @autoclosure @escaping @Sendable () -> [Start: AnyHashable] = [:]
        ) {
            self.event = event
            self.usual = usual
            self.except = except
        }

        var testDescription: String { "\(event)" }
    }

    static let overrun = AstraNetError(.protocolViolation, "the peer sent more than its window allows")
    static let tooMuchCredit = AstraNetError(.protocolViolation, "the peer gave back more than was sent")

    static let rows: [Row] = [
        Row(
            .syn, StreamState.ReceivedSynAction.doNothing,
            except: [
                .dialing: StreamState.ReceivedSynAction.sendAck, .dialingClosed: StreamState.ReceivedSynAction.sendAck,
                .eagerDialing: StreamState.ReceivedSynAction.confirm,
            ]),
        Row(
            .ack, StreamState.ReceivedAckAction.doNothing,
            except: [
                .accepting: StreamState.ReceivedAckAction.sendSynAckAndAccept,
                .acceptingClosed: StreamState.ReceivedAckAction.sendSynAckAndAccept,
            ]),
        Row(
            .data(65_536), StreamState.ReceivedDataAction.deliver,
            except: dropped(.peerFinished, .bothFinished)),
        Row(
            .data(65_537), StreamState.ReceivedDataAction.failStream(overrun),
            except: dropped(.peerFinished, .bothFinished)),
        Row(
            .rewind(65_536), StreamState.ReceivedCreditAction.failStream(tooMuchCredit),
            except: [
                .finishing: StreamState.ReceivedCreditAction.resumeSending,
                .closing: StreamState.ReceivedCreditAction.resumeSending,
                .failing: StreamState.ReceivedCreditAction.resumeSending,
                .endedByClose: nothingToSend, .endedByFailure: nothingToSend, .endedWell: nothingToSend,
            ]),
        Row(.rewind(0), nothingToSend),
        Row(
            .windowSize(65_537), nothingToSend,
            except: [
                .finishing: StreamState.ReceivedCreditAction.resumeSending,
                .closing: StreamState.ReceivedCreditAction.resumeSending,
                .failing: StreamState.ReceivedCreditAction.resumeSending,
            ]),
        Row(.windowSize(0), nothingToSend),
        Row(.fin1, StreamState.PeerEndAction.notify, except: ended(StreamState.PeerEndAction.doNothing)),
        Row(
            .fin2, StreamState.PeerEndAction.notify,
            except: ended(StreamState.PeerEndAction.doNothing).merging(
                [
                    .dialing: StreamState.PeerEndAction.forget, .dialingClosed: StreamState.PeerEndAction.forget,
                    .eagerDialing: StreamState.PeerEndAction.forget,
                    .accepting: StreamState.PeerEndAction.forget, .acceptingClosed: StreamState.PeerEndAction.forget,
                    .closing: StreamState.PeerEndAction.doNothing, .failing: StreamState.PeerEndAction.doNothing,
                    .peerFinished: StreamState.PeerEndAction.doNothing,
                    .bothFinished: StreamState.PeerEndAction.doNothing,
                ], uniquingKeysWith: { $1 })),
        Row(.err, StreamState.PeerEndAction.forget, except: ended(StreamState.PeerEndAction.doNothing)),
        Row(.takeCredit, UInt32(0)),
        Row(
            .enqueue(1), "queued",
            except: [
                .dialingClosed: AstraNetError.Code.closed, .acceptingClosed: AstraNetError.Code.closed,
                .finishing: AstraNetError.Code.closed, .closing: AstraNetError.Code.closed,
                .failing: AstraNetError.Code.closed, .finished: AstraNetError.Code.closed,
                .peerStopped: AstraNetError.Code.closedByPeer, .bothFinished: AstraNetError.Code.closed,
                .endedByClose: AstraNetError.Code.closed, .endedByFailure: AstraNetError.Code.failedByPeer,
                .endedWell: AstraNetError.Code.closed,
            ]),
        Row(
            .finish, StreamState.EndAction.doNothing,
            except: [
                .dialing: StreamState.EndAction.flush, .accepting: StreamState.EndAction.flush,
                .open: StreamState.EndAction.flush, .peerFinished: StreamState.EndAction.flush,
                .eagerDialing: StreamState.EndAction.flush, .eagerOpen: StreamState.EndAction.flush,
            ]),
        Row(
            .close, StreamState.EndAction.flush,
            except: ended(StreamState.EndAction.doNothing).merging(
                [
                    .dialingClosed: StreamState.EndAction.doNothing, .acceptingClosed: StreamState.EndAction.doNothing,
                    .closing: StreamState.EndAction.doNothing, .failing: StreamState.EndAction.doNothing,
                ], uniquingKeysWith: { $1 })),
        Row(
            .fail, StreamState.EndAction.flush,
            except: ended(StreamState.EndAction.doNothing).merging(
                [
                    .dialingClosed: StreamState.EndAction.doNothing, .acceptingClosed: StreamState.EndAction.doNothing,
                    .closing: StreamState.EndAction.doNothing, .failing: StreamState.EndAction.doNothing,
                ], uniquingKeysWith: { $1 })),
        Row(
            .takeEnding, StreamState.EndingStep.wait,
            except: [
                .dialingClosed: StreamState.EndingStep.sendFin1AndFin2AndForget,
                .acceptingClosed: StreamState.EndingStep.sendFin1AndFin2AndForget,
            ]),
    ]

    private static let nothingToSend = StreamState.ReceivedCreditAction.doNothing

    /// The states in which received bytes are dropped, and `more`.
    private static func dropped(_ more: Start...) -> [Start: AnyHashable] {
        let states =
            more + [
                .dialingClosed, .acceptingClosed, .closing, .failing, .endedByClose, .endedByFailure, .endedWell,
            ]
        return Dictionary(uniqueKeysWithValues: states.map { ($0, StreamState.ReceivedDataAction.drop) })
    }

    private static func ended(_ action: AnyHashable) -> [Start: AnyHashable] {
        Dictionary(uniqueKeysWithValues: Start.allCases.filter(\.isEnded).map { ($0, action) })
    }

    @Test(arguments: rows)
    func `every event has the expected result in every state`(row: Row) {
        let exceptions = row.except()
        for start in Start.allCases {
            var state = start.state
            let answer = row.event.apply(to: &state)
            #expect(answer == exceptions[start] ?? row.usual(), "\(row.event) while \(start)")
        }
    }
}

@Suite struct StreamStateTests {
    @Test func `a stream opens at the dialer and at the listener`() {
        var dialer = StreamState.dialer()
        #expect(dialer.phase == .dialing)
        #expect(dialer.receivedSyn() == .sendAck)
        #expect(dialer.phase == .open)
        var listener = StreamState.listener()
        #expect(listener.phase == .accepting)
        #expect(listener.receivedAck() == .sendSynAckAndAccept)
        #expect(listener.phase == .open)
    }

    @Test func `an eager dialer sends within the window at once and finishes after the SYN`() throws {
        var state = StreamState.dialer(isEager: true)
        try state.enqueue(70_000)
        #expect(state.sendable == 65_536)
        state.sent(65_536)
        #expect(state.end(.finish) == .flush)
        #expect(state.takeEnding() == .wait)
        #expect(state.receivedSyn() == .confirm)
        #expect(state.receivedRewind(65_536) == .resumeSending)
        state.sent(4_464)
        #expect(state.takeEnding() == .sendFin2)
    }

    @Test func `an eager listener is open at once and needs no ACK`() throws {
        var state = StreamState.listener(isEager: true)
        #expect(state.phase == .open)
        #expect(state.receivedData(10) == .deliver)
        try state.enqueue(10)
        #expect(state.sendable == 10)
        #expect(state.receivedAck() == .doNothing)
    }

    /// A peer that ends both directions of an eager stream forgets it. A Go node keeps a stream for 10 s; its streams
    /// are never eager.
    @Test(arguments: [true, false]) func `only an eager stream is forgotten when the peer has ended both directions`(
        isEager: Bool
    ) throws {
        let last = isEager ? StreamState.PeerEndAction.forget : .notify
        for finFirst in [true, false] {
            var state = StreamState.listener(isEager: isEager)
            _ = state.receivedAck()
            try state.enqueue(10)
            #expect(state.receivedData(5) == .deliver)
            #expect((finFirst ? state.receivedFin2() : state.receivedFin1()) == .notify)
            #expect((finFirst ? state.receivedFin1() : state.receivedFin2()) == last)
            #expect(state.phase == (isEager ? .ended : .open))
            #expect(state.reading == .finished && state.queued == 0)
            // Received bytes stay readable, and an eager stream owes no credit for them.
            state.took(5)
            #expect(!isEager || state.takeCredit() == 0)
            #expect(throws: AstraNetError.self) { try state.enqueue(1) }
            #expect(state.end(.close) == (isEager ? .doNothing : .flush))
            #expect(state.takeEnding() == (isEager ? .wait : .sendFin1AndFin2AndForget))
        }
    }

    /// Otherwise a truncated stream would look complete.
    @Test func `a close that is aborted before its bytes are sent becomes a failure`() throws {
        var state = StreamState(.dialer(), .syn)
        try state.enqueue(70_000)
        state.sent(65_536)
        #expect(state.end(.close) == .flush)
        state.dropQueued(saying: "too slow")
        #expect(state.takeEnding() == .sendErrAndForget(message: "too slow"))
        // A stream whose bytes are all in flight has ended well.
        var whole = StreamState(.dialer(), .syn)
        #expect(whole.end(.close) == .flush)
        whole.dropQueued(saying: "too slow")
        #expect(whole.takeEnding() == .sendFin1AndFin2AndForget)
    }

    @Test func `a stream stays open after the peer ends one direction`() throws {
        var finished = StreamState.listener(isEager: true)
        try finished.enqueue(10)
        #expect(finished.receivedFin2() == .notify)
        #expect(finished.phase == .open && finished.sendable == 10)
        var stopped = StreamState.listener(isEager: true)
        #expect(stopped.receivedFin1() == .notify)
        #expect(stopped.receivedData(5) == .deliver)
        // This end closes first, with queued bytes. FIN1 of the peer drops them, and the close is complete.
        var closing = StreamState.listener(isEager: true)
        try closing.enqueue(100_000)
        closing.sent(65_536)
        #expect(closing.end(.close) == .flush)
        #expect(closing.receivedFin1() == .notify)
        #expect(closing.takeEnding() == .sendFin1AndFin2AndForget)
    }

    @Test func `nothing is sent before the stream is open`() throws {
        for start in [StreamState.dialer(), .listener()] {
            var state = start
            try state.enqueue(10)
            #expect(state.sendable == 0)
            #expect(state.receivedWindowSize(1_000_000) == .doNothing)
            #expect(state.receivedRewind(0) == .doNothing)
            _ = state.receivedSyn()
            _ = state.receivedAck()
            #expect(state.sendable == 10)
        }
    }

    @Test func `a finish follows the queued bytes, and reading continues`() throws {
        var state = StreamState(.dialer(), .syn)
        try state.enqueue(65_540)
        state.sent(65_536)
        #expect(state.end(.finish) == .flush)
        #expect(state.takeEnding() == .wait)
        #expect(!state.isLingering)
        #expect(state.receivedRewind(10) == .resumeSending)
        #expect(state.sendable == 4)
        state.sent(4)
        #expect(state.takeEnding() == .sendFin2)
        #expect(state.takeEnding() == .wait)
        #expect(state.receivedData(10) == .deliver)
        state.took(10)
        #expect(state.owesCredit(isDry: true))
        #expect(state.takeCredit() == 10)
    }

    @Test func `a close lingers until the queued bytes are sent`() throws {
        var state = StreamState(.dialer(), .syn, .enqueue(65_536), .sent(65_536), .enqueue(1))
        #expect(state.end(.close) == .flush)
        #expect(state.isLingering)
        #expect(state.reading.error == AstraNetError(.closed, "this end of the stream is closed"))
        #expect(state.takeEnding() == .wait)
        #expect(state.receivedRewind(1) == .resumeSending)
        state.sent(1)
        #expect(!state.isLingering)
        #expect(state.takeEnding() == .sendFin1AndFin2AndForget)
        #expect(state.phase == .ended)
    }

    @Test func `a close does not wait for bytes that the peer drops`() {
        var state = StreamState(.dialer(), .syn, .enqueue(65_536), .sent(65_536), .enqueue(1), .close)
        #expect(state.receivedFin1() == .notify)
        #expect(state.queued == 0)
        #expect(state.takeEnding() == .sendFin1AndFin2AndForget)
    }

    @Test func `a failure follows the queued bytes with its message`() {
        var state = StreamState(.dialer(), .syn, .enqueue(3), .fail)
        #expect(state.takeEnding() == .wait)
        #expect(state.sendable == 3)
        state.sent(3)
        #expect(state.takeEnding() == .sendErrAndForget(message: "no more"))
        #expect(state.phase == .ended)
    }

    @Test func `a later failure does not replace an end of file`() {
        var state = StreamState(.dialer(), .syn, .data(5), .fin2)
        #expect(state.fail(AstraNetError(.linkLost, "")) == .forget)
        #expect(state.reading == .finished)
        #expect(state.writing == .over(.other(AstraNetError(.linkLost, ""))))
        state.took(5)
        #expect(state.receiveWindow.unread == 0)
    }

    @Test func `bytes before a failure stay readable`() {
        var state = StreamState(.dialer(), .syn, .data(5), .err)
        #expect(state.reading.error == StreamEvent.failure)
        #expect(state.receiveWindow.unread == 5)
        state.took(5)
        #expect(state.takeCredit() == 0, "no credit is returned on a failed stream")
    }

    @Test func `FIN1 of the peer ends writing but not reading`() throws {
        var state = StreamState(.dialer(), .syn, .enqueue(5))
        #expect(state.receivedFin1() == .notify)
        #expect(state.isPeerClosed)
        #expect(state.queued == 0)
        #expect(state.reading == .open)
        #expect(state.receivedData(5) == .deliver)
        let error = #expect(throws: AstraNetError.self) { try state.enqueue(1) }
        #expect(error?.code == .closedByPeer)
        #expect(state.end(.close) == .flush)
        #expect(state.takeEnding() == .sendFin1AndFin2AndForget)
    }

    @Test func `credit is returned when a quarter of the window is owed or the reader has no bytes`() {
        var state = StreamState(.dialer(), .syn, .data(65_536), .take(16_383))
        #expect(!state.owesCredit(isDry: false))
        #expect(state.owesCredit(isDry: true))
        state.took(1)
        #expect(state.owesCredit(isDry: false))
        #expect(state.takeCredit() == 16_384)
        #expect(!state.owesCredit(isDry: true))
    }

    @Test func `no credit is returned to a peer that finished`() {
        var state = StreamState(.dialer(), .syn, .data(65_536), .fin2, .take(65_536))
        #expect(!state.owesCredit(isDry: true))
        #expect(state.takeCredit() == 0)
    }
}
