import AstraNet
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

/// Flushes during a read: the first answers do not wait for the end of the read.
@Suite(.timeLimit(.minutes(5))) struct AnswersDuringReadTests {
    /// The outcome of the second request of a read.
    private enum Second { case waits, sawFirstAnswerLeave, timedOut }

    @Test func `the first answer leaves while the second request of the same read is served`() async throws {
        // The node has one thread, which the second request blocks. The peer has its own threads.
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let node = Node(configuration: .withoutTimeouts(), group: group)
        let firstPort: UInt32 = 16_777_300
        let answered = ConditionLock(value: false)
        let second = NIOLockedValueBox(Second.waits)
        let listener = try node.bind("answers", answersSoon: true) { stream in
            stream.setDelegate(
                ChangeHandler { stream in
                    guard case .bytes = stream.takeReceived() else { return }
                    if stream.remoteAddress.port == firstPort {
                        #expect(throws: Never.self) { try stream.send(now: ByteBuffer(string: "answer")) }
                        // Serving takes 100 µs, longer than the flush interval of 10 µs.
                        let end = NIODeadline.now() + .microseconds(100)
                        while NIODeadline.now() < end {}
                    } else {
                        let left = answered.lock(whenValue: true, timeoutSeconds: 60)
                        if left { answered.unlock() }
                        second.withLockedValue { $0 = left ? .sawFirstAnswerLeave : .timedOut }
                        #expect(throws: Never.self) { try stream.send(now: ByteBuffer(string: "second")) }
                    }
                })
            return .accepted
        }
        let peer = try await RawPeer.connect(to: try await node.listening())
        _ = await peer.handshake(#"{"RAddr":"127.0.0.1:5555","Abilities":["eager","refuse"],"MaxOp":262144}"#)
        _ = await peer.opsUntilPong()
        // One packet, so that the node receives both requests in one read.
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
        #expect(second.withLockedValue { $0 } == .sawFirstAnswerLeave)
        await peer.close()
        await node.shutdown()
        try await group.shutdownGracefully()
    }
}
