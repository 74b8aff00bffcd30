package import Chanserv
internal import NIOConcurrencyHelpers

/// The results of the requests of one version.
package struct RequestTally: Sendable, Hashable {
    package private(set) var succeeded = 0
    package private(set) var failed = 0
    /// The times of the requests that did not fail, until the first frame; until the end if there was none. So a
    /// request that its client gave up counts with the time that the client waited.
    package private(set) var latencies = LatencyHistogram()

    package init() {}

    package mutating func add(_ result: RequestResult, after latency: Duration) {
        switch result {
        case .succeeded:
            succeeded += 1
            latencies.add(latency)
        case .failed: failed += 1
        case .undecided: latencies.add(latency)
        }
    }

    /// The requests with a result. Those that the client ended, or whose error it caused, have none.
    package var decided: Int { succeeded + failed }
}

/// Counts the results of the requests of one version. Any thread may call its functions.
package final class TallyingObserver: RequestObserver {
    private let box = NIOLockedValueBox(RequestTally())

    package init() {}

    package var tally: RequestTally { box.withLockedValue { $0 } }

    package func requestEnded(_ result: RequestResult, after latency: Duration) {
        box.withLockedValue { $0.add(result, after: latency) }
    }
}
