import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

@testable import AstraNet

/// What a read causes to be sent does not all wait for the end of the read.
@Suite(.timeLimit(.minutes(5))) struct AnswersDuringReadTests {
    /// How the second request of a read went.
    private enum Second { case waits, sawTheFirstAnswerLeave, sawNothing }

    @Test func `the first answer leaves while the second request of the same read is served`() async throws {
        // One thread for the node, which the second request holds; the peer has threads of its own.
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let node = Node(configuration: .patient(), group: group)
        let firstPort: UInt32 = 16_777_300
        let answered = ConditionLock(value: false)
        let second = NIOLockedValueBox(Second.waits)
        let listener = try node.bind("answers", answersSoon: true) { stream in
            stream.setDelegate(
                ChangeHandler { stream in
                    guard case .bytes = stream.takeReceived() else { return }
                    if stream.remoteAddress.port == firstPort {
                        #expect(throws: Never.self) { try stream.send(now: ByteBuffer(string: "answer")) }
                        // Serving it takes a while.
                        let end = NIODeadline.now() + .microseconds(100)
                        while NIODeadline.now() < end {}
                    } else {
                        let left = answered.lock(whenValue: true, timeoutSeconds: 60)
                        if left { answered.unlock() }
                        second.withLockedValue { $0 = left ? .sawTheFirstAnswerLeave : .sawNothing }
                        #expect(throws: Never.self) { try stream.send(now: ByteBuffer(string: "second")) }
                    }
                })
            return .accepted
        }
        let peer = try await RawPeer.connect(to: try await node.listening())
        _ = await peer.handshake(#"{"RAddr":"127.0.0.1:5555","Abilities":["eager","refuse"],"MaxOp":262144}"#)
        _ = await peer.opsUntilPong()
        // In one packet, and so in one read.
        peer.send(
            [firstPort, firstPort + 1].flatMap { port in
                [
                    peer.op(.dial, to: listener.address, from: port),
                    peer.op(.data, to: listener.address, from: port, payload: Array("request".utf8)),
                ]
            })
        let first = await peer.first(.data)
        #expect(first?.payload == Array("answer".utf8))
        answered.lock()
        answered.unlock(withValue: true)
        #expect(await peer.first(.data)?.payload == Array("second".utf8))
        #expect(second.withLockedValue { $0 } == .sawTheFirstAnswerLeave)
        await peer.close()
        await node.shutdown()
        try await group.shutdownGracefully()
    }
}
