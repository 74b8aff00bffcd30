import AstraNet
import NIOCore
import Testing

/// Recorded conversations: those in `Fixtures`, and those of Go nodes if the folder `../shared/wire` exists.
@Suite(.timeLimit(.minutes(5))) struct ConversationTests {
    @Test func `the fixtures contain at least four conversations`() {
        #expect(WireConversation.fixtures.count >= 4)
    }

    @Test(.enabled(if: WireConversation.hasShared, "skipped: there is no ../shared/wire beside this package"))
    func `the shared folder contains conversations of Go nodes`() {
        #expect(WireConversation.shared.count >= 1)
    }

    @Test(arguments: WireConversation.fixtures + WireConversation.shared)
    func `every op decodes and encodes to the same bytes`(conversation: WireConversation) throws {
        for recorded in conversation.ops {
            var bytes = ByteBuffer(bytes: recorded.bytes)
            let read = try bytes.readOp()
            let op = try #require(read)
            #expect(bytes.readableBytes == 0)
            #expect(op.header.command.description == recorded.line.op)
            #expect(op.header.destination.recorded == recorded.line.dst)
            #expect(op.header.source.recorded == recorded.line.src)
            #expect(op.payload.readableBytes == recorded.line.len)
            bytes.writeOp(op)
            #expect(Array(bytes.readableBytesView) == recorded.bytes)
            #expect(recorded.op.encoded == recorded.bytes)
        }
    }

    /// The decoder takes no part of an incomplete op. So it is enough to cut within each op, with the preceding op in
    /// front of it.
    @Test(arguments: WireConversation.fixtures + WireConversation.shared, [WireConversation.Role.client, .server])
    func `a conversation cut at any byte decodes to the same ops`(
        conversation: WireConversation, role: WireConversation.Role
    ) async throws {
        let ops = conversation.ops.filter { $0.from == role }.map(\.bytes)
        for (before, op) in zip([[]] + ops, ops) {
            let both = ByteBuffer(bytes: before + op)
            await Task.yield()
            for cut in before.count..<both.readableBytes {
                var bytes = both.getSlice(at: 0, length: cut)!
                let first = before.isEmpty ? nil : try bytes.readOp()
                let none = try bytes.readOp()
                // A plain `if`: one `#expect` for each byte would take longer than the rest of the test.
                if (first == nil) != before.isEmpty || none != nil || bytes.readableBytes != cut - before.count {
                    Issue.record("cut at \(cut) of \(both.readableBytes)")
                    return
                }
            }
        }
        // The conversation in pieces of several sizes.
        let stream = ByteBuffer(bytes: conversation.bytes(from: role))
        for size in [1, 28, 29, 30, 4_096, 65_536] {
            var bytes = ByteBuffer()
            var count = 0
            for start in stride(from: 0, to: stream.readableBytes, by: size) {
                if start.isMultiple(of: 1_000) { await Task.yield() }
                let length = min(size, stream.readableBytes - start)
                bytes.writeImmutableBuffer(stream.getSlice(at: start, length: length)!)
                while let op = try bytes.readOp() {
                    var encoded = ByteBuffer()
                    encoded.writeOp(op)
                    if encoded != ByteBuffer(bytes: ops[count]) {
                        Issue.record("op \(count) in pieces of \(size)")
                        return
                    }
                    count += 1
                }
            }
            #expect(count == ops.count)
        }
    }

    @Test(arguments: WireConversation.fixtures + WireConversation.shared)
    func `a node serves the recorded client`(conversation: WireConversation) async throws {
        try await ConversationReplay.run(conversation, nodeAs: .server)
    }

    @Test(arguments: WireConversation.fixtures + WireConversation.shared)
    func `a node is served by the recorded server`(conversation: WireConversation) async throws {
        try await ConversationReplay.run(conversation, nodeAs: .client)
    }
}
