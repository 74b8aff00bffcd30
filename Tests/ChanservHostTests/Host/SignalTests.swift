import Foundation
import NIOConcurrencyHelpers
import Testing

@testable import ChanservHost

@Suite(.serialized) struct SignalTests {
    typealias Action = SignalMachine.Action

    @Test func hangUpReloadsAsOftenAsItComes() {
        var machine = SignalMachine()
        for _ in 0..<3 { equal(machine.received(.hangUp), .reload) }
    }

    @Test func theFirstTerminationStopsTheSecondEndsAtOnceAndNothingFollows() {
        var machine = SignalMachine()
        equal(machine.received(.terminate), .stop)
        equal(machine.received(.hangUp), .doNothing)
        equal(machine.received(.terminate), .endNow)
        equal(machine.received(.terminate), .doNothing)
        equal(machine.received(.hangUp), .doNothing)
    }

    /// Real signals, sent to this process: they reach the callbacks instead of ending it.
    @Test(.timeLimit(.minutes(1))) func realSignalsReachTheCallbacks() async throws {
        let (events, continuation) = AsyncStream.makeStream(of: Action.self)
        let handling = await SignalHandling(
            onReload: { continuation.yield(.reload) }, onStop: { continuation.yield(.stop) },
            onEndNow: { continuation.yield(.endNow) })
        defer { handling.cancel() }
        var received = events.makeAsyncIterator()
        let sent: [(Int32, Action)] = [
            (SIGHUP, .reload), (SIGHUP, .reload), (SIGPIPE, .doNothing), (SIGTERM, .stop), (SIGINT, .endNow),
        ]
        for (signal, expected) in sent {
            try #require(kill(getpid(), signal) == 0)
            if expected != .doNothing { #expect(await received.next() == expected) }
        }
    }
}
