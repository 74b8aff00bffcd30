import NIOCore
import Testing

@testable import AstraNet

/// A node that goes takes nothing back of what it has said.
@Suite(.timeLimit(.minutes(2))) struct OrderlyCloseTests {
    /// The system throws away what is under way over a connection that is closed with bytes nobody has read.
    @Test func aPeerThatStillTalksReadsAllThatEndedBeforeTheNodeWent() async throws {
        let node = Node.patient()
        let target = try node.bind("target")
        let streams = 60
        let size = 60_000
        let peer = try await RawPeer.connect(to: try await node.listening(), reads: false)
        peer.sendHandshake()
        for port in 1...UInt32(streams) {
            peer.send([peer.op(.dial, to: target.address, from: port), peer.op(.ack, to: target.address, from: port)])
        }
        for _ in 0..<streams {
            let stream = try await target.nextStream(deadline: .soon)
            try await stream.send(ByteBuffer(repeating: 7, count: size), deadline: .soon)
            stream.close()
        }
        // Withdrawals of what was never offered, which nobody answers.
        let chatter = [UInt8](
            (0..<100).flatMap { _ in
                WireOp(.noService, to: .otherEnd, from: Address(peer.host, 9), text: "nothing").encoded
            })
        let talking = Task { while !Task.isCancelled, await peer.sendAll(chatter) {} }
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
        talking.cancel()
        await talking.value
        await ending.value
    }

    /// One that never closes its side holds a node up for its grace and no longer.
    @Test func aPeerThatDoesNotCloseIsWaitedForAsLongAsTheGrace() async throws {
        let node = Node.patient()
        let peer = try await RawPeer.connect(to: try await node.listening(), reads: false)
        try await peer.channel.setOption(.allowRemoteHalfClosure, value: true).get()
        peer.sendHandshake()
        try await eventually { node.linkCount == 1 }
        await node.shutdown(grace: .milliseconds(50))
        #expect(peer.channel.isActive)
        await peer.close()
    }

    /// Its error has the code that the owner gets after a close of its own, which says nothing of the peer.
    @Test func `a stream over a link that this node closes is gone for its owner`() async throws {
        let node = Node.patient()
        let target = try node.bind("target")
        let peer = try await RawPeer.connect(to: try await node.listening())
        peer.sendHandshake()
        peer.send([peer.op(.dial, to: target.address, from: 1), peer.op(.ack, to: target.address, from: 1)])
        let stream = try await target.nextStream(deadline: .soon)
        #expect(!stream.isPeerGone)
        await node.shutdown(grace: .zero)
        #expect(stream.isPeerGone)
        await peer.close()
    }
}
