/// State machine of one end of a stream (`docs/protocol.md` §4, §6): what may be read and written, and what to send.
///
/// It counts bytes but holds none, and knows neither links nor clocks. Local calls and received ops go in; what the
/// shell must do comes out.
package struct StreamState: Hashable, Sendable {
    /// How far the opening has come.
    enum Phase: Hashable, Sendable {
        /// We sent DIAL and wait for SYN.
        case dialing
        /// We answered a DIAL with SYN and wait for ACK.
        case accepting
        /// Both ends know the stream.
        case open
        /// Nothing more is sent or expected; the link may forget it.
        case ended
    }

    /// What the reader gets after the bytes that are there.
    enum ReadSide: Hashable, Sendable {
        case open
        /// FIN2 came: the end of file.
        case finished
        case failed(Failure)
    }

    /// What a writer may do.
    enum WriteSide: Hashable, Sendable {
        case open
        /// The ending goes out behind what is still queued.
        case ending(Ending)
        case over(Failure)
    }

    /// Why a direction is over. The reasons that streams without a failure have take no memory: a request needs five of them.
    enum Failure: Hashable, Sendable {
        /// This end closed or failed the stream.
        case closedHere
        /// This end finished writing.
        case finishedHere
        /// FIN1 came.
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

    /// How this end ends a stream.
    enum Ending: Hashable, Sendable {
        /// No more bytes from here; reading goes on.
        case finish
        /// Both directions are over.
        case close
        /// Both directions are over because something failed.
        indirect case fail(message: String)
    }

    /// What a pushed stream waits for (`docs/protocol.md` §6).
    enum Offer: UInt8, Hashable, Sendable {
        /// Nothing: it was accepted, or it is not a pushed stream.
        case none
        /// The server's end waits for the client's SYN.
        case made
        /// The client's end waits for its consumer.
        case received
    }

    // In the order in which they take the least memory, as does what is indirect above: a node may have a million of these.

    private(set) var reading = ReadSide.open
    /// Bytes queued by the writer that no DATA op carried yet.
    private(set) var queued = 0
    private(set) var sendWindow = SendWindow()
    private(set) var receiveWindow = ReceiveWindow()
    private(set) var phase: Phase
    private var flags = Flags()
    private(set) var writing = WriteSide.open

    /// A stream that begins with our DIAL.
    static func dialer(isEager: Bool = false) -> StreamState { StreamState(phase: .dialing, isEager: isEager) }
    /// A stream that begins with the peer's DIAL, which our SYN answers.
    package static func listener(isEager: Bool = false) -> StreamState {
        StreamState(phase: isEager ? .open : .accepting, isEager: isEager)
    }
    /// The server's end of a pushed stream: it may send `window` bytes before the client accepts it.
    package static func pushing(window: UInt32) -> StreamState {
        var state = StreamState(phase: .open, isEager: true)
        state.offer = .made
        state.sendWindow.resize(to: min(window, SendWindow.initialSize))
        return state
    }
    /// The client's end of a pushed stream, for which it granted `window` bytes before it accepts.
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

    /// What would take a byte each.
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

    /// FIN1 came.
    private var isStoppedByPeer: Bool {
        get { flags.contains(.stoppedByPeer) }
        set { flags.set(.stoppedByPeer, newValue) }
    }
    /// Whether the peer accepted our DIAL, whatever happened to the stream since.
    private(set) var wasAccepted: Bool {
        get { flags.contains(.accepted) }
        set { flags.set(.accepted, newValue) }
    }
    /// Whether the stream opens without a round trip: bytes follow our DIAL at once, or the peer's DIAL opens the stream.
    /// Both nodes have said that they can do this.
    private(set) var isEager: Bool {
        get { flags.contains(.eager) }
        set { flags.set(.eager, newValue) }
    }
    /// Whether this is a pushed stream that the client has not accepted yet.
    private(set) var offer: Offer {
        get { flags.contains(.offerMade) ? .made : flags.contains(.offerReceived) ? .received : .none }
        set {
            flags.set(.offerMade, newValue == .made)
            flags.set(.offerReceived, newValue == .received)
        }
    }

    /// A close or failure of this end was sent on a pushed stream that the client had not accepted: the link keeps the stream
    /// until it hears from the client.
    private(set) var isEndedHere: Bool {
        get { flags.contains(.endingSent) }
        set { flags.set(.endingSent, newValue) }
    }
    /// Whether this end closed or failed the stream itself. The error does not tell: a link that this node closed has the same
    /// code.
    private(set) var isClosedHere: Bool {
        get { flags.contains(.closedHere) }
        set { flags.set(.closedHere, newValue) }
    }
    /// Whether only the client's answer to a pushed stream is missing.
    var isKept: Bool { isEndedHere && offer == .made && phase != .ended }

    /// Whether a peer's end makes further writing pointless: it finished, failed or stopped us, or the link broke.
    var isPeerGone: Bool {
        if reading != .open { return true }
        if case .over = writing { return true }
        return false
    }

    // MARK: - Opening

    enum ReceivedSynAction: Hashable {
        case sendAck, confirm, doNothing
        /// The client accepted a pushed stream that goes on.
        case resumeSending
        /// The client accepted a pushed stream that has ended here: the link forgets it.
        case forget
    }

    /// SYN: the listener accepted our DIAL, or the client accepted a pushed stream. DATA may follow our ACK at once (a Go
    /// listener accepts that), so the stream does not wait for SYN_ACK.
    mutating func receivedSyn() -> ReceivedSynAction {
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
        // An eager listener knows already.
        return isEager ? .confirm : .sendAck
    }

    /// The client accepts a pushed stream; the peer may send a whole window from now on. Returns whether to send SYN.
    package mutating func accept() -> Bool {
        guard offer == .received else { return false }
        offer = .none
        receiveWindow.grow(to: SendWindow.initialSize)
        // The server keeps the source, and counts it, until it hears of the acceptance, also if everything has come.
        return true
    }

    enum ReceivedAckAction: Hashable { case sendSynAckAndAccept, doNothing }

    /// ACK: the dialer has learned of our SYN.
    mutating func receivedAck() -> ReceivedAckAction {
        guard phase == .accepting else { return .doNothing }
        phase = .open
        return .sendSynAckAndAccept
    }

    // MARK: - Reading

    package enum ReceivedDataAction: Hashable { case deliver, drop, failStream(AstraNetError) }

    /// DATA of `count` bytes. What a closed reader no longer wants is dropped, and so is what comes behind an end.
    package mutating func receivedData(_ count: Int) -> ReceivedDataAction {
        guard phase != .ended, reading == .open else { return .drop }
        guard receiveWindow.receive(count) else {
            return .failStream(AstraNetError(.protocolViolation, "the peer sent more than its window allows"))
        }
        return .deliver
    }

    /// The reader took `count` of the bytes that are there.
    package mutating func took(_ count: Int) {
        receiveWindow.take(count)
    }

    /// Whether credit should go back now: the peer could soon wait for it, or the reader `isDry`: it waits for more.
    package func owesCredit(isDry: Bool) -> Bool {
        guard phase == .open, reading == .open else { return false }
        return receiveWindow.owesMuch || isDry && receiveWindow.owed > 0
    }

    /// The credit to return to the peer now; 0 when there is none or nobody to return it to.
    package mutating func takeCredit() -> UInt32 {
        guard phase == .open, reading == .open else { return 0 }
        return receiveWindow.settle()
    }

    /// The peer may have `limit` bytes under way from now on, which WND_SIZE must tell it.
    mutating func growReceiveWindow(to limit: UInt32) {
        receiveWindow.grow(to: limit)
    }

    // MARK: - Writing

    /// A writer queues `count` bytes.
    ///
    /// - Throws: why it may not: `closed` after an ending of ours, or what ended the write side.
    package mutating func enqueue(_ count: Int) throws(AstraNetError) {
        switch writing {
        case .open: queued += count
        case .ending: throw Failure.closedHere.error
        case .over(let failure): throw failure.error
        }
    }

    /// How many of the queued bytes may go into DATA ops now.
    package var sendable: Int {
        phase == .open || (phase == .dialing && isEager) ? min(queued, sendWindow.available) : 0
    }

    /// A DATA op with `count` bytes goes out.
    package mutating func sent(_ count: Int) {
        sendWindow.reserve(count)
        queued -= count
    }

    package enum ReceivedCreditAction: Hashable { case resumeSending, doNothing, failStream(AstraNetError) }

    /// REWIND of `count` bytes.
    package mutating func receivedRewind(_ count: UInt32) -> ReceivedCreditAction {
        guard phase != .ended else { return .doNothing }
        guard sendWindow.release(count) else {
            return .failStream(AstraNetError(.protocolViolation, "the peer gave back more than was sent"))
        }
        return sendable > 0 ? .resumeSending : .doNothing
    }

    /// WND_SIZE.
    mutating func receivedWindowSize(_ size: UInt32) -> ReceivedCreditAction {
        // What a pushed stream may send before it is accepted was said in the grant.
        guard phase != .ended, offer != .made else { return .doNothing }
        sendWindow.resize(to: size)
        return sendable > 0 ? .resumeSending : .doNothing
    }

    // MARK: - Endings of ours

    enum EndAction: Hashable { case flush, doNothing }

    /// This end finishes, closes or fails the stream. The first `close` or `fail` counts; `finish` may come before.
    mutating func end(_ ending: Ending) -> EndAction {
        guard phase != .ended else { return .doNothing }
        if isEndedHere {
            // The stream is only kept for the client's answer, which a failure no longer waits for.
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
            // Nobody reads any more. A dialer or acceptor whose stream never opened has nothing to wait for either.
            if reading == .open { reading = .failed(.closedHere) }
            if phase != .open { queued = 0 }
        }
        return .flush
    }

    /// What is queued will not be sent. Where a close was waiting behind it, the peer must not take that for the end.
    mutating func dropQueued(saying message: String) {
        if queued > 0, case .ending(.close) = writing { writing = .ending(.fail(message: message)) }
        queued = 0
    }

    enum EndingStep: Hashable {
        /// Still bytes in front of it, or none due.
        case wait
        /// FIN2; the stream goes on for the peer's direction.
        case sendFin2
        /// FIN1, FIN2, and the link forgets the stream.
        case sendFin1AndFin2AndForget
        /// FIN1, FIN2; the link keeps the stream until the client accepts it.
        case sendFin1AndFin2
        /// ERR with the message, FIN1, FIN2 (a Go peer does not end a read at ERR), and the link forgets the stream.
        case sendErrAndForget(message: String)
        /// The same ops; the link keeps the stream until the client accepts it. A source that failed counts as unaccepted, or
        /// many that fail at once would be more than the client granted.
        case sendErr(message: String)
    }

    /// What to send once the bytes queued before an ending are gone.
    mutating func takeEnding() -> EndingStep {
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

    /// Bytes queued before a `close` or `fail` wait for credit that may never come. A stream that is offered has a
    /// deadline of its own.
    var isLingering: Bool {
        guard phase != .ended, offer != .made, queued > 0, case .ending(let ending) = writing else { return false }
        return ending != .finish
    }

    // MARK: - Endings of the peer's

    enum PeerEndAction: Hashable {
        /// The link forgets the stream; its readers and writers are told.
        case forget
        /// Readers and writers are told; the stream stays.
        case notify
        case doNothing
    }

    /// FIN1: the peer takes no more bytes. Those queued are dropped.
    mutating func receivedFin1() -> PeerEndAction {
        guard phase != .ended else { return .doNothing }
        if offer == .made {
            // The client gives the source up.
            offer = .none
            if isEndedHere { return fail(AstraNetError(.closedByPeer, "the client does not want the source")) }
        }
        let action = stopWriting()
        return endsWithPeer() ? .forget : action
    }

    /// A node of this library that has ended both directions has forgotten the stream: there is nobody to say anything to.
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

    /// FIN2: the end of file behind what was received. The stream stays for our direction.
    mutating func receivedFin2() -> PeerEndAction {
        guard phase != .ended else { return .doNothing }
        if phase != .open {
            // Given up before it opened.
            return fail(AstraNetError(.closedByPeer, "the peer gave the stream up while it opened"))
        }
        guard reading == .open else { return .doNothing }
        reading = .finished
        return endsWithPeer() ? .forget : .notify
    }

    /// ERR, FORCE_CLOSED, a broken link or a broken rule: both directions are over at once. Received bytes stay
    /// readable, and where the end of file had come already, it stays an end of file.
    mutating func fail(_ error: AstraNetError) -> PeerEndAction {
        guard phase != .ended else { return .doNothing }
        phase = .ended
        if offer == .made { offer = .none }
        queued = 0
        let failure = Failure.other(error)
        if reading == .open { reading = .failed(failure) }
        if case .over = writing {} else { writing = .over(failure) }
        return .forget
    }

    /// The dialer got a cookie with SYN, so that both ends know each other's abilities: from now on the stream ends as one
    /// between two nodes of this library (`docs/protocol.md` §6).
    mutating func peerUnderstandsPush() { isEager = true }

    private mutating func stopWriting() -> PeerEndAction {
        queued = 0
        isStoppedByPeer = true
        switch writing {
        case .open, .ending(.finish):
            writing = .over(.stoppedByPeer)
            return .notify
        case .ending, .over:
            // A close or fail of ours was waiting behind the bytes just dropped, and can go now.
            return .notify
        }
    }
}
