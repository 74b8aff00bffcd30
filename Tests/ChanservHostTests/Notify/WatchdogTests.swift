import ChanservHost
import NIOConcurrencyHelpers
import PluginRuntime
import Testing

/// When the host sends watchdog messages to the service manager.
@Suite struct WatchdogTests {
    @Test func `each tick sends one message while the host is alive`() async {
        let pings = NIOLockedValueBox(0)
        let (ticks, tick) = AsyncStream.makeStream(of: Void.self)
        for _ in 0..<3 { tick.yield() }
        tick.finish()
        await Watchdog.run(ticks, isAlive: { true }, ping: { pings.withLockedValue { $0 += 1 } })
        #expect(pings.withLockedValue { $0 } == 3)
    }

    @Test func `no message is sent while the liveness check does not answer`() async {
        let pings = NIOLockedValueBox(0)
        let (ticks, tick) = AsyncStream.makeStream(of: Void.self)
        let (asked, released) = (OneTimeEvent(), OneTimeEvent())
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
        // Five ticks have passed, but the check of the first one has not answered.
        #expect(pings.withLockedValue { $0 } == 0)
        released.happened()
        tick.finish()
        await run.value
        #expect(pings.withLockedValue { $0 } == 5)
    }

    @Test func `no message is sent if the liveness check fails`() async {
        let pings = NIOLockedValueBox(0)
        let (ticks, tick) = AsyncStream.makeStream(of: Void.self)
        for _ in 0..<3 { tick.yield() }
        tick.finish()
        await Watchdog.run(ticks, isAlive: { false }, ping: { pings.withLockedValue { $0 += 1 } })
        #expect(pings.withLockedValue { $0 } == 0)
    }

    @Test func `running event loops pass the liveness check`() async {
        #expect(await Watchdog.eventLoopsTurn())
    }
}
