/// State machine of one request at the server: how far it is, how it went, and whether anything of it is left.
///
/// A request has two ends. It is *answered* when its sources are all known and each has ended: error mass, limits and status
/// are about that. It is *released* when the code that serves it needs nothing more: then what it runs on may go.
package struct RequestState: Sendable {
    /// How far the request is.
    enum Stage: Sendable, Hashable {
        /// The body is still coming.
        case readingBody
        /// Sources are being added.
        case listing
        /// All sources are known.
        case listed
    }

    /// Why the request was ended before its time.
    package enum Cancellation: Sendable, Hashable {
        /// The client ended the request's connection.
        case clientGone
        /// A deadline passed, which the text names.
        case deadline(String)
        /// The owner of the service, or an operator, ended it, for this reason if one was given.
        case stopped(String?)
    }

    /// How a part of the request ended: the listing, or one source.
    enum End: Sendable {
        case well
        /// A failure of the server.
        case failed(ChanservError)
        /// The client's doing: it says nothing about the server.
        case neutral
    }

    /// What an end means for the service.
    struct Settlement: Sendable {
        /// The first failure of the request: it counts now.
        var failure: ChanservError?
        /// The request is answered, and this is how it went, if that was not said before.
        var verdict: Verdict?
        var isAnswered = false
        /// Nothing of the request is left.
        var isOver = false
    }

    enum Verdict: Sendable, Hashable { case succeeded, undecided }

    private(set) var stage = Stage.readingBody
    private(set) var cancellation: Cancellation?
    /// Sources that have not ended.
    private(set) var openSources = 0
    /// Those of them that the client has not taken.
    private(set) var unacceptedSources = 0
    private(set) var sourcesTotal = 0
    private var hasFailed = false
    private var wentWell = false
    private var isReported = false
    private var isAnswered = false
    /// Code of the server's author or a plugin works on the request.
    private(set) var isInUse = false

    enum BodyAction: Sendable, Hashable { case begin, drop }

    /// The body is there.
    mutating func receivedBody() -> BodyAction {
        guard stage == .readingBody, cancellation == nil else { return .drop }
        stage = .listing
        isInUse = true
        return .begin
    }

    /// Whether sources may be added.
    var isListing: Bool { stage == .listing && cancellation == nil }

    /// A source was added.
    mutating func addedSource() {
        precondition(stage == .listing, "a source was added to a request that is not listed")
        openSources += 1
        unacceptedSources += 1
        sourcesTotal += 1
    }

    /// The client took a source.
    mutating func acceptedSource() {
        unacceptedSources -= 1
    }

    /// A source has ended.
    mutating func endedSource(_ end: End, wasAccepted: Bool) -> Settlement {
        precondition(openSources > 0, "more sources ended than were added")
        openSources -= 1
        if !wasAccepted { unacceptedSources -= 1 }
        return settle(end)
    }

    /// There will be no more sources. Repeating it does nothing.
    mutating func endedListing(_ end: End) -> Settlement? {
        guard stage != .listed else { return nil }
        stage = .listed
        return settle(end)
    }

    /// Ends the request before its time. The first reason stays, except for a client that has gone: the sources that it took
    /// go on, and any other reason still ends them.
    ///
    /// - Returns: whether there is anything to end for this reason.
    mutating func cancel(_ cancellation: Cancellation) -> Bool {
        guard !isAnswered, self.cancellation == nil || self.cancellation == .clientGone && cancellation != .clientGone
        else { return false }
        self.cancellation = cancellation
        return true
    }

    /// Frames are sent. A request that only ends when its client does counts as a success before that.
    ///
    /// - Returns: whether to report the success now.
    mutating func provedWell() -> Bool {
        guard !hasFailed, !isReported else { return false }
        isReported = true
        return true
    }

    /// The code that works on the request needs nothing more.
    ///
    /// - Returns: whether nothing of the request is left.
    mutating func released() -> Bool {
        precondition(isInUse, "a request was released twice")
        isInUse = false
        return isAnswered
    }

    private mutating func settle(_ end: End) -> Settlement {
        var settlement = Settlement()
        switch end {
        case .well: wentWell = true
        case .neutral: break
        case .failed(let error):
            // One request is one failure, however many of its sources fail.
            if !hasFailed { settlement.failure = error }
            hasFailed = true
        }
        guard stage == .listed, openSources == 0, !isAnswered else { return settlement }
        isAnswered = true
        settlement.isAnswered = true
        settlement.isOver = !isInUse
        if !hasFailed, !isReported { settlement.verdict = wentWell ? .succeeded : .undecided }
        return settlement
    }
}
