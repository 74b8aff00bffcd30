import AstraNet
import Testing

@Suite struct KeepAliveTests {
    private static let second: UInt64 = 1_000_000_000

    /// The times of a link that was opened at second 1,000, after `steps`.
    private static func times(_ steps: (inout KeepAlive) -> Void = { _ in }) -> KeepAlive {
        var times = KeepAlive(now: 1_000 * second, limits: KeepAlive.Limits())
        steps(&times)
        return times
    }

    private static func code(_ verdict: KeepAlive.Verdict) -> AstraNetError.Code? {
        guard case .close(let error) = verdict else { return nil }
        return error.code
    }

    @Test func `the default timeouts are those of protocol section 2`() {
        let limits = KeepAlive.Limits()
        #expect(limits.handshake == 10 * Self.second)
        #expect(limits.idleWrite == 5 * Self.second)
        #expect(limits.silence == 100 * Self.second)
        #expect(limits.stalledWrite == 10 * Self.second)
    }

    @Test func `a peer that sent nothing for two ping intervals is silent`() {
        var times = Self.times { $0.received(now: 1_003 * Self.second) }
        #expect(!times.isSilent(now: 1_013 * Self.second))
        #expect(times.isSilent(now: 1_013 * Self.second + 1))
        times.received(now: 1_014 * Self.second)
        #expect(!times.isSilent(now: 1_020 * Self.second))
    }

    @Test(arguments: [(1_000, false), (1_009, false), (1_010, true), (5_000, true)] as [(UInt64, Bool)])
    func `a link without a handshake is closed after 10 s`(second: UInt64, closes: Bool) {
        let times = Self.times {
            // Other ops and written bytes do not replace the HANDSHAKE.
            $0.received(now: 1_009 * Self.second)
            $0.wrote(now: 1_009 * Self.second, isStalled: false)
        }
        let overdue = times.overdueHandshake(now: second * Self.second)
        #expect(overdue == (closes ? 10 * Self.second : nil))
    }

    @Test func `an idle link sends a PING every 5 s`() {
        var times = Self.times()
        #expect(times.check(now: 1_005 * Self.second - 1) == .fine)
        #expect(times.check(now: 1_005 * Self.second) == .sendPing)
        #expect(times.check(now: 1_009 * Self.second) == .fine)
        #expect(times.check(now: 1_010 * Self.second) == .sendPing)
        times.wrote(now: 1_014 * Self.second, isStalled: false)
        #expect(times.check(now: 1_015 * Self.second) == .fine)
        #expect(times.check(now: 1_019 * Self.second) == .sendPing)
    }

    @Test func `the link of a silent peer is closed after 100 s`() {
        var times = Self.times { $0.received(now: 1_020 * Self.second) }
        #expect(times.check(now: 1_119 * Self.second) == .sendPing)
        #expect(Self.code(times.check(now: 1_120 * Self.second)) == .linkLost)
    }

    @Test func `a stalled write ends the link after 10 s`() {
        var times = Self.times {
            $0.wrote(now: 1_001 * Self.second, isStalled: true)
            // A later write does not restart the stall.
            $0.wrote(now: 1_008 * Self.second, isStalled: true)
        }
        #expect(times.check(now: 1_011 * Self.second - 1) == .fine)
        #expect(Self.code(times.check(now: 1_011 * Self.second)) == .linkLost)
    }

    @Test func `a slow connection is not stalled`() {
        var times = Self.times { $0.wrote(now: 1_001 * Self.second, isStalled: true) }
        for second in 1_002..<1_040 as Range<UInt64> {
            times.received(now: second * Self.second)
            times.holds(100_000 - Int(second), now: second * Self.second)
            #expect(Self.code(times.check(now: second * Self.second)) == nil)
        }
        // The connection is still full after progress. From here on it makes no progress, so the stall timeout runs.
        times.holds(100_000 - 1_039, now: 1_045 * Self.second)
        #expect(Self.code(times.check(now: 1_048 * Self.second)) == nil)
        #expect(Self.code(times.check(now: 1_049 * Self.second)) == .linkLost)
    }

    @Test func `new bytes and an unknown amount of buffered bytes are not progress`() {
        var times = Self.times { $0.wrote(now: 1_001 * Self.second, isStalled: true) }
        for buffered in [500, 600, 600, nil, 100] as [Int?] { times.holds(buffered, now: 1_009 * Self.second) }
        #expect(Self.code(times.check(now: 1_011 * Self.second)) == .linkLost)
    }

    @Test func `buffered bytes on a connection that is not full are no stall`() {
        var times = Self.times {
            $0.holds(200, now: 1_001 * Self.second)
            $0.holds(100, now: 1_002 * Self.second)
        }
        #expect(times.check(now: 1_050 * Self.second) == .sendPing)
    }

    @Test func `a stall that ends is forgotten`() {
        for steps: (inout KeepAlive) -> Void in [
            { $0.unstalled() }, { $0.wrote(now: 1_009 * Self.second, isStalled: false) },
        ] {
            var times = Self.times {
                $0.wrote(now: 1_001 * Self.second, isStalled: true)
                steps(&$0)
                $0.received(now: 1_050 * Self.second)
            }
            #expect(times.check(now: 1_060 * Self.second) == .sendPing)
            times.wrote(now: 1_061 * Self.second, isStalled: true)
            #expect(Self.code(times.check(now: 1_071 * Self.second)) == .linkLost)
        }
    }

    @Test func `more than 4 MiB of control ops in a full connection are too many, and progress resets the count`() {
        var times = Self.times()
        let half = KeepAlive.controlLimit / 2
        #expect([half, half, 1].map { times.wroteWhileFull($0) } == [false, false, true])
        times.unstalled()
        #expect([half, half, 1].map { times.wroteWhileFull($0) } == [false, false, true])
    }

    @Test func `a round trip is the time from the last PING to its PONG`() {
        var times = Self.times()
        #expect(times.ponged(now: 1_001 * Self.second) == nil)
        times.pinged(now: 1_001 * Self.second)
        #expect(times.ponged(now: 1_001 * Self.second + 7) == 7)
        #expect(times.ponged(now: 1_002 * Self.second) == nil)
        times.pinged(now: 1_003 * Self.second)
        #expect(times.ponged(now: 1_003 * Self.second) == 1)
        #expect(times.check(now: 1_005 * Self.second) == .sendPing)
        #expect(times.ponged(now: 1_006 * Self.second) == Self.second)
    }
}

@Suite struct JoinBackoffTests {
    @Test func `pauses double up to a minute and are reset by a success`() {
        var backoff = JoinBackoff()
        var waits = (0..<12).map { _ in backoff.failed(jitter: 1) }
        #expect(waits.prefix(4) == [.milliseconds(250), .milliseconds(500), .seconds(1), .seconds(2)])
        #expect(waits.last == .seconds(60))
        #expect(waits.allSatisfy { $0 <= .seconds(60) })
        backoff.succeeded()
        waits = [backoff.failed(jitter: 0), backoff.failed(jitter: 0)]
        #expect(waits == [.milliseconds(125), .milliseconds(250)])
    }
}
