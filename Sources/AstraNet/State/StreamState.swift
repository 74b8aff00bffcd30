/// State machine of one end of a stream (`docs/protocol.md` §4, §6): what may be read and written, and what to send.
///
/// Local calls and received ops go in, actions for the shell come out. It counts bytes but stores none, and knows
/// neither links nor clocks.
package struct StreamState: Hashable, Sendable {
    /// The phase of the stream's life.
    package enum Phase: Hashable, Sendable {
        /// This node has sent DIAL and waits for SYN.
        case dialing
        /// This node has answered a DIAL with SYN and waits for ACK.
        case accepting
        /// Both ends know the stream.
        case open
        /// The stream sends and expects nothing more, so the link may forget it.
        case ended
    }

    /// The state of the receiving direction. It applies after the bytes that are already received.
    package enum ReadSide: Hashable, Sendable {
        case open
        /// FIN2 has arrived: the end of file.
        case finished
        case failed(Failure)
    }

    /// The state of the sending direction.
    package enum WriteSide: Hashable, Sendable {
        case open
        /// The end is sent after the bytes that are still queued.
        case ending(Ending)
        case over(Failure)
    }

    /// The reason why a direction has ended. The usual reasons take no heap memory, because a request needs five of
    /// them.
    package enum Failure: Hashable, Sendable {
        /// This node has closed or failed the stream.
        case closedHere
        /// This node has finished writing.
        case finishedHere
        /// FIN1 has arrived.
        case stoppedByPeer
        indirect case other(AstraNetError)

        var error: AstraNetError {
            switch self {
            case .closedHere: AstraNetError(.closed, "this end of the stream is closed")
            case .finishedHere: AstraNetError(.closed, "this end of the stream is finished")
            case .stoppedByPeer: AstraNetError(.closedByPeer, "the peer wants no more bytes")
            case .other(let error): error
            }
        }
    }

    /// The way in which this node ends a stream.
    package enum Ending: Hashable, Sendable {
        /// Ends the sending direction. Reading goes on.
        case finish
        /// Ends both directions normally.
        case close
        /// Ends both directions with an error.
        indirect case fail(message: String)
    }

    /// The acceptance of a pushed stream (`docs/protocol.md` §6.5).
    package enum Offer: UInt8, Hashable, Sendable {
        /// The stream is accepted, or is not a pushed stream.
        case none
        /// The server's end, which waits for the client's SYN.
        case made
        /// The client's end, which waits for its consumer.
        case received
    }

    // The order of these properties and the `indirect` cases above minimize the size. A node may have a million
    // streams.

    package private(set) var reading = ReadSide.open
    /// The number of bytes that the writer has queued and no DATA op has carried yet.
    package private(set) var queued = 0
    package private(set) var sendWindow = SendWindow()
    package private(set) var receiveWindow = ReceiveWindow()
    package private(set) var phase: Phase
    private var flags = Flags()
    package private(set) var writing = WriteSide.open

    /// Returns the state of a stream that begins with this node's DIAL.
    package static func dialer(isEager: Bool = false) -> StreamState { StreamState(phase: .dialing, isEager: isEager) }
    /// Returns the state of a stream that begins with the peer's DIAL, which this node answers with SYN.
    package static func listener(isEager: Bool = false) -> StreamState {
        StreamState(phase: isEager ? .open : .accepting, isEager: isEager)
    }
    /// Returns the state of the server's end of a pushed stream. It may send `window` bytes before the client accepts
    /// it.
    package static func pushing(window: UInt32) -> StreamState {
        var state = StreamState(phase: .open, isEager: true)
        state.offer = .made
        state.sendWindow.resize(to: min(window, SendWindow.initialSize))
        return state
    }
    /// Returns the state of the client's end of a pushed stream. The client has granted `window` bytes before its
    /// acceptance.
    package static func pushed(window: UInt32) -> StreamState {
        var state = StreamState(phase: .open, isEager: true)
        state.offer = .received
        state.receiveWindow = ReceiveWindow(limit: min(window, SendWindow.initialSize))
        return state
    }

    private init(phase: Phase, isEager: Bool) {
        self.phase = phase
        self.isEager = isEager
    }

    /// Booleans of the stream in a single byte.
    private struct Flags: OptionSet, Hashable, Sendable {
        let rawValue: UInt8

        static let stoppedByPeer = Flags(rawValue: 1)
        static let accepted = Flags(rawValue: 2)
        static let eager = Flags(rawValue: 4)
        static let offerMade = Flags(rawValue: 8)
        static let offerReceived = Flags(rawValue: 16)
        static let endingSent = Flags(rawValue: 32)
        static let closedHere = Flags(rawValue: 64)

        mutating func set(_ flag: Flags, _ isSet: Bool) {
            if isSet { insert(flag) } else { remove(flag) }
        }
    }

    /// Whether FIN1 has arrived.
    private var isStoppedByPeer: Bool {
        get { flags.contains(.stoppedByPeer) }
        set { flags.set(.stoppedByPeer, newValue) }
    }
    /// Whether the peer has accepted this node's DIAL or pushed stream. It stays true when the stream ends.
    package private(set) var wasAccepted: Bool {
        get { flags.contains(.accepted) }
        set { flags.set(.accepted, newValue) }
    }
    /// Whether the stream opens without a round trip: bytes follow this node's DIAL at once, or the peer's DIAL opens
    /// the stream. Both nodes have announced this ability.
    private(set) var isEager: Bool {
        get { flags.contains(.eager) }
        set { flags.set(.eager, newValue) }
    }
    /// Whether this is a pushed stream that the client has not accepted yet.
    package private(set) var offer: Offer {
        get { flags.contains(.offerMade) ? .made : flags.contains(.offerReceived) ? .received : .none }
        set {
            flags.set(.offerMade, newValue == .made)
            flags.set(.offerReceived, newValue == .received)
        }
    }

    /// Whether this node has sent the end of a pushed stream that the client had not accepted. The link keeps the
    /// stream until the client answers.
    private(set) var isEndedHere: Bool {
        get { flags.contains(.endingSent) }
        set { flags.set(.endingSent, newValue) }
    }
    /// Whether this node has closed or failed the stream. The error code does not tell, because a link that this node
    /// closes has the same code.
    private(set) var isClosedHere: Bool {
        get { flags.contains(.closedHere) }
        set { flags.set(.closedHere, newValue) }
    }
    /// Whether the stream waits only for the client's answer to a pushed stream.
    package var isKept: Bool { isEndedHere && offer == .made && phase != .ended }

    /// Whether further writing is pointless: the peer has finished, stopped or failed the stream, or the link is lost.
    package var isPeerClosed: Bool {
        if reading != .open { return true }
        if case .over = writing { return true }
        return false
    }

    // MARK: - Opening

    package enum ReceivedSynAction: Hashable {
        case sendAck, confirm, doNothing
        /// The client has accepted a pushed stream that goes on.
        case resumeSending
        /// The client has accepted a pushed stream that has ended at this node, so the link forgets it.
        case forget
    }

    /// Handles SYN: the listener has accepted this node's DIAL, or the client has accepted a pushed stream. DATA may
    /// follow the ACK at once, because a Go listener accepts that. So the stream does not wait for SYN_ACK.
    package mutating func receivedSyn() -> ReceivedSynAction {
        if offer == .made, phase == .open {
            offer = .none
            wasAccepted = true
            sendWindow.resize(to: SendWindow.initialSize)
            guard isEndedHere else { return .resumeSending }
            phase = .ended
            return .forget
        }
        guard phase == .dialing else { return .doNothing }
        phase = .open
        wasAccepted = true
        // An eager listener has opened the stream already.
        return isEager ? .confirm : .sendAck
    }

    /// Accepts a pushed stream at the client. The server may use the full initial window from now on. Returns whether
    /// to send SYN.
    package mutating func accept() -> Bool {
        guard offer == .received else { return false }
        offer = .none
        receiveWindow.grow(to: SendWindow.initialSize)
        // SYN is sent even if all bytes have arrived, because the server keeps and counts the source until then.
        return true
    }

    /// Declines a received offer because this node fails the stream, whose ERR, FIN1 and FIN2 tell the server. Does
    /// nothing for other streams.
    mutating func failedHere() {
        if offer == .received { offer = .none }
    }

    package enum ReceivedAckAction: Hashable { case sendSynAckAndAccept, doNothing }

    /// Handles ACK: the dialer has received the SYN.
    package mutating func receivedAck() -> ReceivedAckAction {
        guard phase == .accepting else { return .doNothing }
        phase = .open
        return .sendSynAckAndAccept
    }

    // MARK: - Reading

    package enum ReceivedDataAction: Hashable { case deliver, drop, failStream(AstraNetError) }

    /// Handles DATA of `count` bytes. Drops bytes that a closed reader does not want, and bytes after an end.
    package mutating func receivedData(_ count: Int) -> ReceivedDataAction {
        guard phase != .ended, reading == .open else { return .drop }
        guard receiveWindow.receive(count) else {
            return .failStream(AstraNetError(.protocolViolation, "the peer sent more than its window allows"))
        }
        return .deliver
    }

    /// Records that the reader has taken `count` bytes.
    package mutating func took(_ count: Int) {
        receiveWindow.take(count)
    }

    /// Whether to return credit now: the peer may soon have to wait for it, or the reader has no bytes left (`isDry`).
    package func owesCredit(isDry: Bool) -> Bool {
        guard phase == .open, reading == .open else { return false }
        return receiveWindow.owesMuch || isDry && receiveWindow.owed > 0
    }

    /// Takes the credit to return to the peer now; 0 if there is none, or the peer does not need it.
    package mutating func takeCredit() -> UInt32 {
        guard phase == .open, reading == .open else { return 0 }
        return receiveWindow.settle()
    }

    /// Enlarges the peer's window to `limit` bytes. The caller must send WND_SIZE.
    mutating func growReceiveWindow(to limit: UInt32) {
        receiveWindow.grow(to: limit)
    }

    // MARK: - Writing

    /// Queues `count` bytes of a writer.
    ///
    /// - Throws: `closed` after this node has ended the direction, or the error that ended it.
    package mutating func enqueue(_ count: Int) throws(AstraNetError) {
        switch writing {
        case .open: queued += count
        case .ending: throw Failure.closedHere.error
        case .over(let failure): throw failure.error
        }
    }

    /// The number of queued bytes that DATA ops may carry now.
    package var sendable: Int {
        phase == .open || (phase == .dialing && isEager) ? min(queued, sendWindow.available) : 0
    }

    /// Records that a DATA op with `count` bytes is sent.
    package mutating func sent(_ count: Int) {
        sendWindow.reserve(count)
        queued -= count
    }

    package enum ReceivedCreditAction: Hashable { case resumeSending, doNothing, failStream(AstraNetError) }

    /// Handles REWIND of `count` bytes.
    package mutating func receivedRewind(_ count: UInt32) -> ReceivedCreditAction {
        guard phase != .ended else { return .doNothing }
        guard sendWindow.release(count) else {
            return .failStream(AstraNetError(.protocolViolation, "the peer gave back more than was sent"))
        }
        return sendable > 0 ? .resumeSending : .doNothing
    }

    /// Handles WND_SIZE.
    package mutating func receivedWindowSize(_ size: UInt32) -> ReceivedCreditAction {
        // Before its acceptance, the window of a pushed stream comes from the grant.
        guard phase != .ended, offer != .made else { return .doNothing }
        sendWindow.resize(to: size)
        return sendable > 0 ? .resumeSending : .doNothing
    }

    // MARK: - Ends of this node

    package enum EndAction: Hashable { case flush, doNothing }

    /// Finishes, closes or fails the stream. `finish` may come before `close` or `fail`; of these two, the first one
    /// counts.
    package mutating func end(_ ending: Ending) -> EndAction {
        guard phase != .ended else { return .doNothing }
        if isEndedHere {
            // The stream is kept only for the client's answer. A failure does not wait for it.
            guard case .fail = ending else { return .doNothing }
            offer = .none
        }
        switch (writing, ending) {
        case (.open, _), (.ending(.finish), .close), (.ending(.finish), .fail), (.over, .close), (.over, .fail):
            writing = .ending(ending)
        case (.ending, _), (.over, .finish):
            return .doNothing
        }
        if ending != .finish {
            isClosedHere = true
            // No reader is left. A stream that never opened has nothing to send either.
            if reading == .open { reading = .failed(.closedHere) }
            if phase != .open { queued = 0 }
        }
        return .flush
    }

    /// Drops the queued bytes. A close that waited behind them becomes a failure, so that the peer does not see a
    /// normal end.
    package mutating func dropQueued(saying message: String) {
        if queued > 0, case .ending(.close) = writing { writing = .ending(.fail(message: message)) }
        queued = 0
    }

    package enum EndingStep: Hashable {
        /// Bytes must be sent before the end, or there is no end to send.
        case wait
        /// Send FIN2. The stream goes on for the peer's direction.
        case sendFin2
        /// Send FIN1 and FIN2. The link forgets the stream.
        case sendFin1AndFin2AndForget
        /// Send FIN1 and FIN2. The link keeps the stream until the client accepts it.
        case sendFin1AndFin2
        /// Send ERR with the message, FIN1 and FIN2, because a Go peer does not end a read at ERR. The link forgets the
        /// stream.
        case sendErrAndForget(message: String)
        /// Send the same ops. The link keeps the stream until the client accepts it: a failed source counts as
        /// unaccepted. Otherwise many sources that fail at once would exceed the grant.
        case sendErr(message: String)
    }

    /// Takes the ops to send when all bytes that were queued before an end have been sent.
    package mutating func takeEnding() -> EndingStep {
        guard case .ending(let ending) = writing, queued == 0, phase != .ended else { return .wait }
        switch ending {
        case .finish:
            guard phase == .open else { return .wait }
            writing = .over(.finishedHere)
            return .sendFin2
        case .close:
            guard offer == .made else {
                phase = .ended
                return .sendFin1AndFin2AndForget
            }
            isEndedHere = true
            writing = .over(.closedHere)
            return .sendFin1AndFin2
        case .fail(let message):
            guard offer == .made else {
                phase = .ended
                return .sendErrAndForget(message: message)
            }
            isEndedHere = true
            writing = .over(.closedHere)
            return .sendErr(message: message)
        }
    }

    /// Whether bytes that were queued before a `close` or `fail` wait for credit, which may never come. A pushed stream
    /// that is not accepted has a deadline of its own.
    package var isLingering: Bool {
        guard phase != .ended, offer != .made, queued > 0, case .ending(let ending) = writing else { return false }
        return ending != .finish
    }

    // MARK: - Ends of the peer

    package enum PeerEndAction: Hashable {
        /// The link forgets the stream and wakes its readers and writers.
        case forget
        /// The link wakes readers and writers and keeps the stream.
        case notify
        case doNothing
    }

    /// Handles FIN1: the peer reads no more bytes. Drops the queued bytes.
    package mutating func receivedFin1() -> PeerEndAction {
        guard phase != .ended else { return .doNothing }
        if offer == .made {
            // The client has given the source up.
            offer = .none
            if isEndedHere { return fail(AstraNetError(.closedByPeer, "the client does not want the source")) }
        }
        let action = stopWriting()
        return endsWithPeer() ? .forget : action
    }

    /// Ends the stream if the peer must have forgotten it: a node of this library forgets a stream whose directions
    /// have both ended. Returns whether it has ended.
    private mutating func endsWithPeer() -> Bool {
        guard isEager, phase == .open, reading == .finished else { return false }
        switch writing {
        case .open, .ending(.finish): return false
        case .ending, .over: break
        }
        guard isStoppedByPeer else { return false }
        phase = .ended
        return true
    }

    /// Handles FIN2: the end of file after the received bytes. The sending direction goes on.
    package mutating func receivedFin2() -> PeerEndAction {
        guard phase != .ended else { return .doNothing }
        if phase != .open {
            // The peer gave the stream up before it opened.
            return fail(AstraNetError(.closedByPeer, "the peer gave the stream up while it opened"))
        }
        guard reading == .open else { return .doNothing }
        reading = .finished
        return endsWithPeer() ? .forget : .notify
    }

    /// Ends both directions at once: after ERR, FORCE_CLOSED, a lost link or a protocol violation. Received bytes stay
    /// readable. If the end of file has already arrived, the reader gets it and not the error.
    package mutating func fail(_ error: AstraNetError) -> PeerEndAction {
        guard phase != .ended else { return .doNothing }
        phase = .ended
        if offer == .made { offer = .none }
        queued = 0
        let failure = Failure.other(error)
        if reading == .open { reading = .failed(failure) }
        if case .over = writing {} else { writing = .over(failure) }
        return .forget
    }

    /// Makes the stream eager, because the dialer has received a cookie with SYN and so both nodes are of this library.
    /// From now on it ends like an eager stream (`docs/protocol.md` §6.5).
    mutating func peerUnderstandsPush() { isEager = true }

    private mutating func stopWriting() -> PeerEndAction {
        queued = 0
        isStoppedByPeer = true
        switch writing {
        case .open, .ending(.finish):
            writing = .over(.stoppedByPeer)
            return .notify
        case .ending, .over:
            // A close or fail that waited behind the dropped bytes can be sent now.
            return .notify
        }
    }
}
