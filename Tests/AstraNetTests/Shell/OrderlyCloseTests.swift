import AstraNet
import NIOCore
import Testing

/// A shutdown loses no bytes that the node has sent.
@Suite(.timeLimit(.minutes(2))) struct OrderlyCloseTests {
    /// If a connection is closed while received bytes are unread, the operating system discards the bytes in flight. So
    /// the node must read on while it closes.
    @Test func `a peer that keeps sending still receives all streams that ended before the shutdown`() async throws {
        let node = Node.withoutTimeouts()
        let target = try node.bind("target")
        let streams = 60
        let size = 60_000
        let peer = try await RawPeer.connect(to: try await node.listening(), reads: false)
        peer.sendHandshake()
        for port in 1...UInt32(streams) {
            peer.send([peer.op(.dial, to: target.address, from: port), peer.op(.ack, to: target.address, from: port)])
        }
        for _ in 0..<streams {
            let stream = try await target.nextStream(deadline: .testDeadline)
            try await stream.send(ByteBuffer(repeating: 7, count: size), deadline: .testDeadline)
            stream.close()
        }
        // Withdrawals of a name that was never offered: the node does not answer them.
        let withdrawals = [UInt8](
            (0..<100).flatMap { _ in
                WireOp(.noService, to: .otherEnd, from: Address(peer.host, 9), text: "nothing").encoded
            })
        let sending = Task { while !Task.isCancelled, await peer.sendAll(withdrawals) {} }
        let ending = Task { await node.shutdown(grace: .seconds(60)) }
        try await peer.readSlowly()
        var bytes = 0
        var ends = 0
        while let op = await peer.ops.next() {
            if op.command == .data { bytes += op.payload.count }
            if op.command == .fin2 { ends += 1 }
        }
        #expect(bytes == streams * size)
        #expect(ends == streams)
        sending.cancel()
        await sending.value
        await ending.value
    }

    /// A peer that never closes its side delays a shutdown by the grace period and no longer.
    @Test func `a shutdown waits at most the grace period for a peer that does not close`() async throws {
        let node = Node.withoutTimeouts()
        let peer = try await RawPeer.connect(to: try await node.listening(), reads: false)
        try await peer.channel.setOption(.allowRemoteHalfClosure, value: true).get()
        peer.sendHandshake()
        try await eventually { node.linkCount == 1 }
        await node.shutdown(grace: .milliseconds(50))
        #expect(peer.channel.isActive)
        await peer.close()
    }

    /// The error code alone does not show this: it is the same as after a close by the owner.
    @Test func `the peer of a stream is gone after the local node closes the link`() async throws {
        let node = Node.withoutTimeouts()
        let target = try node.bind("target")
        let peer = try await RawPeer.connect(to: try await node.listening())
        peer.sendHandshake()
        peer.send([peer.op(.dial, to: target.address, from: 1), peer.op(.ack, to: target.address, from: 1)])
        let stream = try await target.nextStream(deadline: .testDeadline)
        #expect(!stream.isPeerClosed)
        await node.shutdown(grace: .zero)
        #expect(stream.isPeerClosed)
        await peer.close()
    }
}
