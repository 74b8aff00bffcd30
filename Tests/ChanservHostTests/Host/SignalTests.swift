import ChanservHost
import Foundation
import NIOConcurrencyHelpers
import Testing

@Suite(.serialized) struct SignalTests {
    typealias Action = SignalMachine.Action

    @Test func `each SIGHUP requests a reload`() {
        var machine = SignalMachine()
        for _ in 0..<3 { equal(machine.received(.hangUp), .reload) }
    }

    @Test func `the first SIGTERM stops the host, the second one ends it at once and further ones do nothing`() {
        var machine = SignalMachine()
        equal(machine.received(.terminate), .stop)
        equal(machine.received(.hangUp), .doNothing)
        equal(machine.received(.terminate), .endNow)
        equal(machine.received(.terminate), .doNothing)
        equal(machine.received(.hangUp), .doNothing)
    }

    /// Sends real signals to this process. They reach the callbacks and do not end the process.
    @Test(.timeLimit(.minutes(1))) func `real signals reach the callbacks`() async throws {
        let (events, continuation) = AsyncStream.makeStream(of: Action.self)
        let handling = await SignalHandling(
            onReload: { continuation.yield(.reload) }, onStop: { continuation.yield(.stop) },
            onImmediateEnd: { continuation.yield(.endNow) })
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
