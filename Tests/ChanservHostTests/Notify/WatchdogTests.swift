import NIOConcurrencyHelpers
import Testing

@testable import ChanservHost

/// When the service manager is told that the host is alive.
@Suite struct WatchdogTests {
    @Test func itIsToldAtEachTickAndNotAfterTheEnd() async {
        let pings = NIOLockedValueBox(0)
        let (ticks, tick) = AsyncStream.makeStream(of: Void.self)
        for _ in 0..<3 { tick.yield() }
        tick.finish()
        await Watchdog.run(ticks, isAlive: { true }, ping: { pings.withLockedValue { $0 += 1 } })
        #expect(pings.withLockedValue { $0 } == 3)
    }

    @Test func whatDoesNotAnswerIsNotAlive() async {
        let pings = NIOLockedValueBox(0)
        let (ticks, tick) = AsyncStream.makeStream(of: Void.self)
        let (asked, released) = (Event(), Event())
        let run = Task {
            await Watchdog.run(
                ticks,
                isAlive: {
                    asked.happened()
                    await released.wait()
                    return true
                }, ping: { pings.withLockedValue { $0 += 1 } })
        }
        for _ in 0..<5 { tick.yield() }
        await asked.wait()
        // However many ticks have passed: the first is still waited for.
        #expect(pings.withLockedValue { $0 } == 0)
        released.happened()
        tick.finish()
        await run.value
        #expect(pings.withLockedValue { $0 } == 5)
    }

    @Test func whatSaysThatItIsNotAliveIsBelieved() async {
        let pings = NIOLockedValueBox(0)
        let (ticks, tick) = AsyncStream.makeStream(of: Void.self)
        for _ in 0..<3 { tick.yield() }
        tick.finish()
        await Watchdog.run(ticks, isAlive: { false }, ping: { pings.withLockedValue { $0 += 1 } })
        #expect(pings.withLockedValue { $0 } == 0)
    }

    @Test func eventLoopsTurn() async {
        #expect(await Watchdog.eventLoopsTurn())
    }
}
