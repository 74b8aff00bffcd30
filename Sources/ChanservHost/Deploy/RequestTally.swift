package import Chanserv
internal import NIOConcurrencyHelpers

/// The results of the requests of one version.
package struct RequestTally: Sendable, Hashable {
    package private(set) var succeeded = 0
    package private(set) var failed = 0
    /// The largest number of failures without a success between them.
    package private(set) var mostFailuresInARow = 0
    private var failuresInARow = 0
    /// The times of the requests that succeeded or that their client gave up, until the first frame; until the end if
    /// there was none.
    package private(set) var latencies = LatencyHistogram()

    package init() {}

    package mutating func add(_ result: RequestResult, after latency: Duration) {
        switch result {
        case .succeeded:
            succeeded += 1
            failuresInARow = 0
            latencies.add(latency)
        case .failed:
            failed += 1
            failuresInARow += 1
            mostFailuresInARow = max(mostFailuresInARow, failuresInARow)
        case .abandoned: latencies.add(latency)
        case .undecided: break
        }
    }

    /// The requests with a result. Those that the client ended, or whose error it caused, have none.
    package var decided: Int { succeeded + failed }

    /// The share of failures among the requests with a result, from 0 to 1; 0 without any.
    package var failureRate: Double { decided == 0 ? 0 : Double(failed) / Double(decided) }
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
