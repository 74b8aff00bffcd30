import Testing

@testable import AstraNet

@Suite struct LinkStateTests {
    private static let us = HostID(rawValue: 1)
    private static let peer = HostID(rawValue: 2)
    private static let second: UInt64 = 1_000_000_000

    /// A link opened at second 1,000, and whatever happened since.
    private static func link(_ steps: (inout LinkState) -> Void = { _ in }) -> LinkState {
        var link = LinkState(localHost: us, now: 1_000 * second)
        steps(&link)
        return link
    }

    private static func up(_ steps: (inout LinkState) -> Void = { _ in }) -> LinkState {
        link {
            _ = $0.receivedHandshake(from: peer)
            steps(&$0)
        }
    }

    @Test func theLimitsAreTheProtocols() {
        let limits = LinkState.Limits()
        #expect(limits.handshake == 10 * Self.second)
        #expect(limits.idleWrite == 5 * Self.second)
        #expect(limits.silence == 100 * Self.second)
        #expect(limits.stalledWrite == 10 * Self.second)
    }

    @Test func aHandshakeBringsTheLinkUp() {
        var link = Self.link()
        #expect(link.phase == .handshaking)
        #expect(link.receivedHandshake(from: Self.peer) == .linkUp(peer: Self.peer))
        #expect(link.phase == .up(peer: Self.peer))
    }

    @Test func aSecondHandshakeChangesNothing() {
        for other in [Self.peer, Self.us, HostID(rawValue: 3), HostID(rawValue: 0)] {
            var link = Self.up()
            #expect(link.receivedHandshake(from: other) == .doNothing)
            #expect(link == Self.up())
        }
    }

    @Test(arguments: [0, 1] as [UInt64])
    func aHandshakeFromNobodyOrFromOurselvesEndsTheLink(host: UInt64) {
        var link = Self.link()
        guard case .close(let error) = link.receivedHandshake(from: HostID(rawValue: host)) else {
            Issue.record("the link went on")
            return
        }
        #expect(error.code == .protocolViolation)
        #expect(link.phase == .closed)
    }

    @Test func aClosedLinkDoesNothing() {
        var link = Self.up { $0.closed() }
        let closed = link
        #expect(link.receivedHandshake(from: Self.peer) == .doNothing)
        #expect(link.tick(now: .max) == .doNothing)
        #expect(link == closed)
        var young = Self.link { $0.closed() }
        #expect(young.receivedHandshake(from: Self.peer) == .doNothing)
        #expect(young.tick(now: .max) == .doNothing)
    }

    @Test(arguments: [(1_000, false), (1_009, false), (1_010, true), (5_000, true)] as [(UInt64, Bool)])
    func aLinkWithoutHandshakeClosesAfterTenSeconds(second: UInt64, closes: Bool) {
        var link = Self.link {
            // Ops that are no HANDSHAKE, and written bytes, do not count.
            $0.received(now: 1_009 * Self.second)
            $0.wrote(now: 1_009 * Self.second, isStalled: false)
        }
        let action = link.tick(now: second * Self.second)
        #expect(Self.code(action) == (closes ? .deadlineExceeded : nil))
        #expect(action == .doNothing || closes)
        #expect(link.phase == (closes ? .closed : .handshaking))
    }

    @Test func anIdleLinkPingsEveryFiveSeconds() {
        var link = Self.up()
        #expect(link.tick(now: 1_005 * Self.second - 1) == .doNothing)
        #expect(link.tick(now: 1_005 * Self.second) == .sendPing)
        #expect(link.tick(now: 1_009 * Self.second) == .doNothing)
        #expect(link.tick(now: 1_010 * Self.second) == .sendPing)
        link.wrote(now: 1_014 * Self.second, isStalled: false)
        #expect(link.tick(now: 1_015 * Self.second) == .doNothing)
        #expect(link.tick(now: 1_019 * Self.second) == .sendPing)
    }

    @Test func aSilentPeerIsGivenUpAfterAHundredSeconds() {
        var link = Self.up { $0.received(now: 1_020 * Self.second) }
        #expect(link.tick(now: 1_119 * Self.second) == .sendPing)
        #expect(Self.code(link.tick(now: 1_120 * Self.second)) == .linkLost)
        #expect(link.phase == .closed)
        #expect(link.tick(now: 2_000 * Self.second) == .doNothing)
    }

    @Test func aStalledWriteEndsTheLinkAfterTenSeconds() {
        var link = Self.up {
            $0.wrote(now: 1_001 * Self.second, isStalled: true)
            // More written behind it does not begin a new stall.
            $0.wrote(now: 1_008 * Self.second, isStalled: true)
        }
        #expect(link.tick(now: 1_011 * Self.second - 1) == .doNothing)
        #expect(Self.code(link.tick(now: 1_011 * Self.second)) == .linkLost)
    }

    @Test func aSlowConnectionIsNotAStalledOne() {
        var link = Self.up { $0.wrote(now: 1_001 * Self.second, isStalled: true) }
        for second in 1_002..<1_040 as Range<UInt64> {
            link.received(now: second * Self.second)
            link.progressed(now: second * Self.second)
            #expect(Self.code(link.tick(now: second * Self.second)) == nil)
        }
        // Progress is not the end of the fullness: from here on nothing moves.
        #expect(Self.code(link.tick(now: 1_049 * Self.second)) == .linkLost)
    }

    @Test func progressOfAConnectionThatIsNotFullIsNoStall() {
        var link = Self.up { $0.progressed(now: 1_001 * Self.second) }
        #expect(link.tick(now: 1_050 * Self.second) == .sendPing)
    }

    @Test func aStallThatEndsIsForgotten() {
        for steps: (inout LinkState) -> Void in [
            { $0.unstalled() }, { $0.wrote(now: 1_009 * Self.second, isStalled: false) },
        ] {
            var link = Self.up {
                $0.wrote(now: 1_001 * Self.second, isStalled: true)
                steps(&$0)
                $0.received(now: 1_050 * Self.second)
            }
            #expect(link.tick(now: 1_060 * Self.second) == .sendPing)
            link.wrote(now: 1_061 * Self.second, isStalled: true)
            #expect(Self.code(link.tick(now: 1_071 * Self.second)) == .linkLost)
        }
    }

    private static func code(_ action: LinkState.TickAction) -> AstraNetError.Code? {
        guard case .close(let error) = action else { return nil }
        return error.code
    }
}

@Suite struct JoinBackoffTests {
    @Test func waitsDoubleUpToAMinuteAndBeginAnewAfterSuccess() {
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
