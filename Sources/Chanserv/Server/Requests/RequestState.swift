/// State machine of one request at the server: its stage, its result, and whether it can be forgotten.
///
/// A request has two ends. It is *answered* when its listing and all its sources have ended: error mass, limits and
/// status depend on this. Its *handler has finished* when it needs the request no more: then the plugin instance may be
/// destroyed.
package struct RequestState: Sendable {
    /// The stage of a request.
    package enum Stage: Sendable, Hashable {
        /// The body has not arrived completely.
        case readingBody
        /// Sources are being added.
        case listing
        /// All sources have been added.
        case listed
    }

    /// The reason of an early end.
    package enum Cancellation: Sendable, Hashable {
        /// The client ended the request's connection.
        case clientGone
        /// A deadline passed; the text names it.
        case deadline(String)
        /// The owner of the service, or an operator, ended the request, with an optional reason.
        case stopped(String?)
    }

    /// How a part of the request ended: the listing, or one source.
    package enum End: Sendable {
        case well
        /// The server failed.
        case failed(ChanservError)
        /// The client caused the end. It is no result about the server.
        case neutral
    }

    /// The consequences of an end for the service.
    package struct Settlement: Sendable {
        /// The first failure of the request. It counts at once.
        package var failure: ChanservError?
        /// The result of the answered request, unless it was reported before.
        package var verdict: Verdict?
        package var isAnswered = false
        /// Whether the handler has finished too.
        package var isHandlerFinished = false
    }

    package enum Verdict: Sendable, Hashable { case succeeded, undecided }

    package private(set) var stage = Stage.readingBody
    package private(set) var cancellation: Cancellation?
    /// The number of sources that have not ended.
    package private(set) var openSources = 0
    /// The number of open sources that the client has not accepted.
    package private(set) var unacceptedSources = 0
    package private(set) var sourcesTotal = 0
    /// The number of sources that the client ended, or whose error it caused.
    private(set) var neutralSources = 0
    private var hasFailed = false
    private var wentWell = false
    private var isReported = false
    private var isAnswered = false
    /// Whether the handler has begun and has not finished.
    package private(set) var isInUse = false

    package init() {}

    package enum BodyAction: Sendable, Hashable { case begin, drop }

    /// Records that the body has arrived.
    package mutating func receivedBody() -> BodyAction {
        guard stage == .readingBody, cancellation == nil else { return .drop }
        stage = .listing
        isInUse = true
        return .begin
    }

    /// Whether sources may be added.
    package var isListing: Bool { stage == .listing && cancellation == nil }

    /// Whether the request was ended early with all its sources. If only the client went away, the sources that it
    /// accepted go on.
    var isEnding: Bool { cancellation != nil && cancellation != .clientGone }

    /// Records that a source was added.
    package mutating func addedSource() {
        precondition(stage == .listing, "a source was added to a request that is not listed")
        openSources += 1
        unacceptedSources += 1
        sourcesTotal += 1
    }

    /// Records that the client accepted a source.
    package mutating func acceptedSource() {
        unacceptedSources -= 1
    }

    /// Records that a source has ended.
    package mutating func endedSource(_ end: End, countedAsAccepted: Bool) -> Settlement {
        precondition(openSources > 0, "more sources ended than were added")
        openSources -= 1
        if !countedAsAccepted { unacceptedSources -= 1 }
        if case .neutral = end { neutralSources += 1 }
        return settle(end)
    }

    /// Records that no more sources will be added. Further calls do nothing.
    package mutating func endedListing(_ end: End) -> Settlement? {
        guard stage != .listed else { return nil }
        stage = .listed
        return settle(end)
    }

    /// Ends the request early. The first reason stays, with one exception: if the client went away, the sources that it
    /// accepted go on, and a later reason ends them.
    ///
    /// - Returns: whether there is anything to end for this reason.
    package mutating func cancel(_ cancellation: Cancellation) -> Bool {
        guard !isAnswered, self.cancellation == nil || self.cancellation == .clientGone && cancellation != .clientGone
        else { return false }
        self.cancellation = cancellation
        return true
    }

    /// Records that frames are being sent well. A long request can thereby count as a success before it ends.
    ///
    /// - Returns: whether the success must be reported now.
    package mutating func succeeded() -> Bool {
        guard !hasFailed, !isReported else { return false }
        isReported = true
        return true
    }

    /// Records that the handler needs the request no more.
    ///
    /// - Returns: whether the request is also answered.
    package mutating func handlerFinished() -> Bool {
        precondition(isInUse, "the handler of a request finished twice")
        isInUse = false
        return isAnswered
    }

    private mutating func settle(_ end: End) -> Settlement {
        var settlement = Settlement()
        switch end {
        case .well: wentWell = true
        case .neutral: break
        case .failed(let error):
            // A request counts as one failure, whatever the number of its failed sources.
            if !hasFailed { settlement.failure = error }
            hasFailed = true
        }
        guard stage == .listed, openSources == 0, !isAnswered else { return settlement }
        isAnswered = true
        settlement.isAnswered = true
        settlement.isHandlerFinished = !isInUse
        if !hasFailed, !isReported {
            settlement.verdict = wentWell ? .succeeded : .undecided
            isReported = true
        }
        return settlement
    }
}
