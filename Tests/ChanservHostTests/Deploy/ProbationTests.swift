import Chanserv
import ChanservHost
import HostConfiguration
import TestSupport
import Testing

/// The judgement of a new version.
@Suite struct ProbationTests {
    private let start = ContinuousClock.now
    private let minute = Duration.seconds(60)

    private func probation(
        errorLimit: Int? = nil, _ change: (inout RouteOptions.Deploy) -> Void = { _ in }
    ) -> Probation {
        var options = RouteOptions.Deploy()
        change(&options)
        return Probation(minute, options, errorLimit: errorLimit, now: start)
    }

    private func tally(
        good: Int, failed: Int = 0, took: Duration = .milliseconds(10)
    ) -> RequestTally {
        var tally = RequestTally()
        for _ in 0..<good { tally.add(.succeeded, after: took) }
        for _ in 0..<failed { tally.add(.failed, after: took) }
        return tally
    }

    private func isRollback(_ action: Probation.Action) -> Bool {
        if case .rollBack = action { true } else { false }
    }

    @Test func `a version that is as good as the old one settles at the end of its time and not before`() {
        var probation = probation()
        let (new, old) = (tally(good: 900, failed: 9), tally(good: 100, failed: 1))
        #expect(probation.tick(now: start + .seconds(59), new: new, old: old) == .doNothing)
        #expect(probation.tick(now: start + minute, new: new, old: old) == .settle)
        #expect(probation.state == .ended)
        #expect(probation.tick(now: start + minute, new: tally(good: 0, failed: 99), old: old) == .doNothing)
        #expect(probation.instanceFailed("late") == .doNothing)
    }

    @Test func `without enough requests it is held once, until there are enough`() {
        var probation = probation()
        let idle = tally(good: 19)
        #expect(probation.tick(now: start + minute, new: idle, old: idle) == .hold)
        #expect(probation.state == .held)
        #expect(probation.tick(now: start + minute * 2, new: idle, old: idle) == .doNothing)
        let enough = tally(good: 20)
        #expect(probation.tick(now: start + minute * 3, new: enough, old: enough) == .settle)
    }

    @Test func `a held version is rolled back like any other`() {
        var probation = probation()
        #expect(
            probation.tick(now: start + minute, new: tally(good: 0), old: tally(good: 0)) == .hold)
        #expect(probation.instanceFailed("signal 11") == .rollBack(.instanceFailed("signal 11")))
        #expect(probation.state == .ended)
    }

    @Test func `a version that fails in a fifth of its requests is rolled back after a few hundred`() throws {
        var probation = probation()
        let (new, old) = (tally(good: 360, failed: 90), tally(good: 50))
        let action = probation.tick(now: start + .seconds(1), new: new, old: old)
        #expect(action == .rollBack(.failures(rate: 0.2, before: 0)))
    }

    @Test func `a few failures beside few requests of the old version are no reason`() {
        var probation = probation()
        for (new, old) in [
            (tally(good: 0, failed: 5), tally(good: 0)), (tally(good: 2, failed: 3), tally(good: 2)),
            (tally(good: 95, failed: 5), tally(good: 10)),
        ] {
            #expect(probation.tick(now: start, new: new, old: old) == .doNothing)
        }
    }

    @Test func `a version that looks worse does not pass until there are enough requests`() {
        var probation = probation()
        let old = tally(good: 20)
        #expect(probation.tick(now: start + minute, new: tally(good: 14, failed: 6), old: old) == .hold)
        #expect(probation.tick(now: start + minute, new: tally(good: 600, failed: 6), old: tally(good: 60)) == .settle)
        var slow = self.probation()
        let few = tally(good: 20, took: .milliseconds(25))
        #expect(slow.tick(now: start + minute, new: few, old: tally(good: 3)) == .hold)
    }

    @Test func `failures that both versions have are no reason`() {
        var probation = probation()
        let (new, old) = (tally(good: 5_000, failed: 4_000), tally(good: 500, failed: 500))
        #expect(probation.tick(now: start, new: new, old: old) == .doNothing)
    }

    @Test func `a version that is three times slower is rolled back`() {
        var probation = probation()
        let (new, old) = (tally(good: 360, took: .milliseconds(30)), tally(good: 40, took: .milliseconds(10)))
        let action = probation.tick(now: start + .seconds(1), new: new, old: old)
        guard case .rollBack(.slow(let median, let before)) = action else {
            Issue.record("\(action)")
            return
        }
        #expect(median > .milliseconds(28) && median < .milliseconds(32))
        #expect(before > .milliseconds(9) && before < .milliseconds(11))
    }

    @Test func `requests that clients give up count with the time that they waited, other errors of clients do not`() {
        let old = tally(good: 40)
        var (abandoned, undecided) = (RequestTally(), RequestTally())
        for _ in 0..<400 {
            abandoned.add(.abandoned, after: .seconds(5))
            undecided.add(.undecided, after: .seconds(5))
        }
        var probation = probation()
        #expect(probation.tick(now: start, new: undecided, old: old) == .doNothing)
        #expect(isRollback(probation.tick(now: start, new: abandoned, old: old)))
    }

    @Test func `times that differ by less than a millisecond are not slower`() {
        var probation = probation()
        let (new, old) = (tally(good: 500, took: .microseconds(600)), tally(good: 500, took: .microseconds(100)))
        #expect(probation.tick(now: start, new: new, old: old) == .doNothing)
    }

    @Test func `a mixture of fast and slow requests does not deceive`() {
        // Half of the requests take a hundred times longer. In a small sample one kind is often more frequent.
        func mixture(fast: Int, slow: Int) -> RequestTally {
            var tally = tally(good: fast, took: .milliseconds(1))
            for _ in 0..<slow { tally.add(.succeeded, after: .milliseconds(100)) }
            return tally
        }
        var probation = probation()
        let (new, old) = (mixture(fast: 90, slow: 90), mixture(fast: 13, slow: 7))
        #expect(probation.tick(now: start, new: new, old: old) == .doNothing)
    }

    @Test func `failures in a row and a failed instance are reasons without any comparison`() {
        var probation = probation(errorLimit: 10) { $0.control = 0 }
        let none = tally(good: 0)
        #expect(probation.tick(now: start, new: tally(good: 50, failed: 9), old: none) == .doNothing)
        #expect(
            probation.tick(now: start, new: tally(good: 50, failed: 10), old: none) == .rollBack(.failedInARow(10)))
        var other = self.probation()
        #expect(other.instanceFailed("killed") == .rollBack(.instanceFailed("killed")))
    }

    @Test func `new terms apply to a probation that is held`() {
        var probation = probation()
        let few = tally(good: 5)
        #expect(probation.tick(now: start + minute, new: few, old: few) == .hold)
        var options = RouteOptions.Deploy()
        options.requests = 5
        probation.reconfigure(until: start + minute, options)
        #expect(probation.tick(now: start + minute, new: few, old: few) == .settle)
    }

    @Test func `without a control the old version needs no requests and failures are not compared`() {
        var probation = probation { $0.control = 0 }
        let new = tally(good: 50, failed: 50)
        #expect(probation.tick(now: start, new: new, old: tally(good: 0)) == .doNothing)
        #expect(probation.tick(now: start + minute, new: new, old: tally(good: 0)) == .settle)
    }

    @Test func `a comparison that is switched off is not made`() {
        var probation = probation {
            $0.failureRatio = nil
            $0.latencyRatio = nil
        }
        let (new, old) = (tally(good: 100, failed: 900, took: .seconds(1)), tally(good: 100))
        #expect(probation.tick(now: start, new: new, old: old) == .doNothing)
    }

    /// Versions of each kind, judged four times a second for five minutes at 100 requests a second. The random
    /// numbers are the same in each run.
    @Test(arguments: [(0.0, 0.0, nil), (0.02, 0.02, nil), (0.1, 0.1, nil), (0.0, 0.2, 10), (0.02, 0.2, 40)])
    func `good versions settle and bad ones are rolled back within seconds`(
        before: Double, rate: Double, maximumSeconds: Int?
    ) {
        var random = SplitMix(state: UInt64(before * 1_000 + rate * 10))
        for version in 0..<30 {
            var probation = Probation(.seconds(300), RouteOptions.Deploy(), errorLimit: nil, now: start)
            var (new, old) = (RequestTally(), RequestTally())
            var verdict = Probation.Action.doNothing
            var ticks = 0
            while verdict == .doNothing, ticks < 1_600 {
                ticks += 1
                for _ in 0..<25 {
                    let isOld = random.fraction() < 0.1
                    let failed = random.fraction() < (isOld ? before : rate)
                    let time = Duration.milliseconds(1 + random.fraction() * 9)
                    if isOld {
                        old.add(failed ? .failed : .succeeded, after: time)
                    } else {
                        new.add(failed ? .failed : .succeeded, after: time)
                    }
                }
                verdict = probation.tick(now: start + .milliseconds(250) * ticks, new: new, old: old)
            }
            let second = (ticks + 3) / 4
            if let maximumSeconds {
                #expect(
                    isRollback(verdict) && second <= maximumSeconds,
                    "version \(version): \(verdict) after \(second) s")
            } else {
                #expect(verdict == .settle && second == 300, "version \(version): \(verdict) after \(second) s")
            }
        }
    }
}

extension SplitMix {
    /// Returns a number from 0 to 1.
    fileprivate mutating func fraction() -> Double { Double(next() >> 11) / Double(1 << 53) }
}
