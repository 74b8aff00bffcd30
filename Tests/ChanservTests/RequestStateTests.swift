import Chanserv
import Testing

/// `RequestState`: every event in every stage.
@Suite struct RequestStateTests {
    enum Stage: CaseIterable {
        case readingBody, listing, listingWithSource, streaming, answered, cancelled

        /// A request in this stage. In `streaming` it has one accepted source.
        var state: RequestState {
            var state = RequestState()
            guard self != .readingBody else { return state }
            _ = state.receivedBody()
            switch self {
            case .readingBody, .listing: break
            case .listingWithSource: state.addedSource()
            case .streaming:
                state.addedSource()
                state.acceptedSource()
                _ = state.endedListing(.well)
            case .answered: _ = state.endedListing(.well)
            case .cancelled:
                state.addedSource()
                _ = state.cancel(.stopped("the test ends it"))
            }
            return state
        }
    }

    private let failure = RequestState.End.failed(ChanservError(.sourceFailed, "broken"))

    @Test(arguments: Stage.allCases)
    func `the body begins a request once and only in the stage readingBody`(stage: Stage) {
        var state = stage.state
        #expect(state.receivedBody() == (stage == .readingBody ? .begin : .drop))
        guard stage == .readingBody else { return }
        #expect(state.stage == .listing && state.isListing && state.isInUse)
        #expect(state.receivedBody() == .drop)
    }

    @Test func `the body of a cancelled request is dropped`() {
        var state = RequestState()
        let answer1 = state.cancel(.clientGone)
        #expect(answer1)
        #expect(state.receivedBody() == .drop)
        #expect(!state.isInUse)
    }

    @Test(arguments: Stage.allCases) func `sources can be added only while the request is listing`(stage: Stage) {
        let state = stage.state
        #expect(state.isListing == (stage == .listing || stage == .listingWithSource))
        guard state.isListing else { return }
        var more = state
        more.addedSource()
        #expect(more.openSources == state.openSources + 1 && more.unacceptedSources == state.unacceptedSources + 1)
        #expect(more.sourcesTotal == state.sourcesTotal + 1)
        more.acceptedSource()
        #expect(more.openSources == state.openSources + 1 && more.unacceptedSources == state.unacceptedSources)
        #expect(more.sourcesTotal == state.sourcesTotal + 1)
    }

    @Test(arguments: Stage.allCases) func `the listing ends once`(stage: Stage) throws {
        var state = stage.state
        let settlement = state.endedListing(.well)
        #expect(state.stage == .listed)
        let endedBefore = stage == .streaming || stage == .answered
        #expect((settlement == nil) == endedBefore)
        #expect(state.endedListing(failure) == nil)
        guard let settlement else { return }
        // A request with an open source is answered when that source ends.
        let hasSource = stage == .listingWithSource || stage == .cancelled
        #expect(settlement.isAnswered == !hasSource)
        #expect(settlement.isHandlerFinished == (stage == .readingBody))
        #expect(settlement.verdict == (hasSource ? nil : .succeeded))
    }

    @Test(arguments: [Stage.listingWithSource, .streaming, .cancelled])
    func `a listed request is answered when its last source ends`(stage: Stage) {
        var state = stage.state
        let settlement = state.endedSource(.well, countedAsAccepted: stage == .streaming)
        #expect(state.openSources == 0 && state.unacceptedSources == 0 && state.sourcesTotal == 1)
        #expect(settlement.isAnswered == (stage == .streaming))
        #expect(settlement.verdict == (stage == .streaming ? .succeeded : nil))
        #expect(!settlement.isHandlerFinished && settlement.failure == nil)
        if stage == .streaming {
            let answer2 = state.handlerFinished()
            #expect(answer2)
        } else {
            #expect(state.endedListing(.neutral)?.verdict == .succeeded)
        }
    }

    @Test(arguments: Stage.allCases) func `a request is cancelled at most once`(stage: Stage) {
        var state = stage.state
        let isFirst = stage != .answered && stage != .cancelled
        #expect(state.cancel(.stopped(nil)) == isFirst)
        #expect(!state.isListing)
        let answer3 = state.cancel(.deadline("late"))
        #expect(!answer3)
        let answer4 = state.cancel(.clientGone)
        #expect(!answer4)
        switch stage {
        case .answered: #expect(state.cancellation == nil)
        case .cancelled: #expect(state.cancellation == .stopped("the test ends it"))
        default: #expect(state.cancellation == .stopped(nil))
        }
    }

    @Test(arguments: [RequestState.Cancellation.deadline("late"), .stopped("by an operator")])
    func `a deadline or a stop still ends the accepted sources of a client that is gone`(
        reason: RequestState.Cancellation
    ) {
        var state = Stage.listingWithSource.state
        state.acceptedSource()
        let answer5 = state.cancel(.clientGone)
        #expect(answer5)
        let answer6 = state.cancel(.clientGone)
        #expect(!answer6)
        #expect(state.endedListing(.neutral)?.isAnswered == false)
        let answer7 = state.cancel(reason)
        #expect(answer7)
        #expect(state.cancellation == reason)
        let answer8 = state.cancel(reason) && !state.cancel(.clientGone)
        #expect(!answer8)
        #expect(state.cancellation == reason)
    }

    @Test(arguments: Stage.allCases) func `success is reported once while frames are sent`(stage: Stage) {
        var state = stage.state
        // In the stage `answered` the success has been reported with the answer.
        let answer9 = state.succeeded() == (stage != .answered)
        #expect(answer9)
        let answer10 = state.succeeded()
        #expect(!answer10)
        guard stage == .streaming else { return }
        let settlement = state.endedSource(.well, countedAsAccepted: true)
        #expect(settlement.isAnswered && settlement.verdict == nil)
    }

    @Test(arguments: Stage.allCases.filter { $0 != .readingBody })
    func `a request is over when it is answered and its handler has finished`(stage: Stage) {
        var state = stage.state
        let answer11 = state.handlerFinished() == (stage == .answered)
        #expect(answer11)
        #expect(!state.isInUse)
        guard stage == .streaming else { return }
        let settlement = state.endedSource(.well, countedAsAccepted: true)
        #expect(settlement.isAnswered && settlement.isHandlerFinished)
    }

    @Test func `several failures of one request count once and exclude a success`() {
        var state = RequestState()
        _ = state.receivedBody()
        for _ in 0..<3 { state.addedSource() }
        #expect(state.endedSource(failure, countedAsAccepted: false).failure?.message == "broken")
        #expect(state.endedSource(failure, countedAsAccepted: false).failure == nil)
        let answer12 = state.succeeded()
        #expect(!answer12)
        #expect(state.endedListing(failure)?.failure == nil)
        let last = state.endedSource(.well, countedAsAccepted: false)
        #expect(last.isAnswered && last.verdict == nil && last.failure == nil)
    }

    @Test func `a failure after a reported success still counts`() {
        var state = Stage.streaming.state
        let answer13 = state.succeeded()
        #expect(answer13)
        let settlement = state.endedSource(failure, countedAsAccepted: true)
        #expect(settlement.failure?.message == "broken" && settlement.isAnswered && settlement.verdict == nil)
    }

    @Test func `a request without a success or a failure is undecided`() {
        var state = Stage.listingWithSource.state
        let answer14 = state.cancel(.clientGone)
        #expect(answer14)
        #expect(state.endedListing(.neutral)?.isAnswered == false)
        #expect(state.endedSource(.neutral, countedAsAccepted: false).verdict == .undecided)

        var unread = RequestState()
        let answer15 = unread.cancel(.clientGone)
        #expect(answer15)
        let settlement = unread.endedListing(.neutral)
        #expect(
            settlement?.isAnswered == true && settlement?.isHandlerFinished == true && settlement?.verdict == .undecided
        )
    }
}
