import AstraNet
import NIOCore
import Testing

@Suite struct OutboxTests {
    private static let op = OpHeader(.syn, to: Address(HostID(rawValue: 1), 2), from: Address(HostID(rawValue: 3), 4))

    /// Takes the outbound ops. Checks the size of the control ops and whether the timer must be started.
    private func expectTaken(_ bytes: Int, queuedNonUrgent: Bool = false, from outbox: inout Outbox) {
        var taken = Outbox.Outbound()
        let watches = outbox.take(into: &taken, releasesHeld: true, isJoined: false)
        #expect(taken.control.readableBytes == bytes && watches == queuedNonUrgent)
    }

    private func expect(_ value: Bool, _ isExpected: Bool = true) {
        #expect(value == isExpected)
    }

    @Test func `a deferrable op starts the timer at once if the event loop is not notified`() {
        var outbox = Outbox()
        outbox.outbound.control.writeOp(Self.op)
        expect(outbox.queuedNonUrgent())
        expect(outbox.queuedNonUrgent(), false)
        expectTaken(0, from: &outbox)
        expect(outbox.flushDelayEnded())
        expectTaken(OpHeader.size, from: &outbox)
    }

    @Test func `a deferrable op that is added during a read starts the timer only if the read does not send it`() {
        var outbox = Outbox()
        outbox.suppressFlushUntilReadEnds()
        outbox.outbound.control.writeOp(Self.op)
        expect(outbox.queuedNonUrgent(), false)
        expectTaken(0, queuedNonUrgent: true, from: &outbox)
        expect(outbox.flushDelayEnded())
        expectTaken(OpHeader.size, from: &outbox)

        outbox.suppressFlushUntilReadEnds()
        outbox.outbound.control.writeOp(Self.op)
        expect(outbox.queuedNonUrgent(), false)
        outbox.outbound.control.writeOp(Self.op)
        expect(outbox.queuedUrgent(), false)
        expectTaken(2 * OpHeader.size, from: &outbox)
        expectTaken(0, from: &outbox)
    }

    @Test func `a deferrable announcement starts no timer`() {
        var outbox = Outbox()
        outbox.suppressFlushUntilReadEnds()
        outbox.announce(.service, "name", at: Address(HostID(rawValue: 3), 4), to: .peer)
        expectTaken(0, from: &outbox)
    }
}
