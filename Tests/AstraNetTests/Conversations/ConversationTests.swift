import NIOCore
import Testing

@testable import AstraNet

/// Recorded conversations: our own, and those of Go nodes where they lie beside the package.
@Suite(.timeLimit(.minutes(5))) struct ConversationTests {
    @Test func thereAreConversationsOfOurOwn() {
        #expect(WireConversation.fixtures.count >= 4)
    }

    @Test(.enabled(if: WireConversation.hasShared, "skipped: there is no ../shared/wire beside this package"))
    func thereAreConversationsOfGoNodes() {
        #expect(WireConversation.shared.count >= 1)
    }

    @Test(arguments: WireConversation.fixtures + WireConversation.shared)
    func everyOpDecodesAndEncodesToTheSameBytes(conversation: WireConversation) throws {
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

    /// Whichever op a cut falls into, nothing of it is taken before it is whole; so the cuts need only go through each
    /// op on its own, behind the one before it.
    @Test(arguments: WireConversation.fixtures + WireConversation.shared, [WireConversation.Role.client, .server])
    func aCutAtAnyByteDecodesTheSame(conversation: WireConversation, role: WireConversation.Role) async throws {
        let ops = conversation.ops.filter { $0.from == role }.map(\.bytes)
        for (before, op) in zip([[]] + ops, ops) {
            let both = ByteBuffer(bytes: before + op)
            await Task.yield()
            for cut in before.count..<both.readableBytes {
                var bytes = both.getSlice(at: 0, length: cut)!
                let first = before.isEmpty ? nil : try bytes.readOp()
                let none = try bytes.readOp()
                // Plain `if`s: a macro for each byte would take longer than all the rest.
                if (first == nil) != before.isEmpty || none != nil || bytes.readableBytes != cut - before.count {
                    Issue.record("cut at \(cut) of \(both.readableBytes)")
                    return
                }
            }
        }
        // And with what comes in pieces of every size put together again.
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
    func aNodeServesTheRecordedClient(conversation: WireConversation) async throws {
        try await ConversationReplay.run(conversation, nodeAs: .server)
    }

    @Test(arguments: WireConversation.fixtures + WireConversation.shared)
    func aNodeIsServedByTheRecordedServer(conversation: WireConversation) async throws {
        try await ConversationReplay.run(conversation, nodeAs: .client)
    }
}
