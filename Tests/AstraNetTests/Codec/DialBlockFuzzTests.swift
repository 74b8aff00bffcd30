import AstraNet
import Foundation
import NIOCore
import TestSupport
import Testing

/// Random dial blocks. For the full size set `CHANSERV_TEST_FUZZ=10000000`.
@Suite(.timeLimit(.minutes(60))) struct DialBlockFuzzTests {
    private static let executions =
        ProcessInfo.processInfo.environment["CHANSERV_TEST_FUZZ"].flatMap(Int.init) ?? 50_000

    private static func randomBlock(_ random: inout SplitMix64) -> [UInt8] {
        var block = DialBlock(
            push: .random(using: &random)
                ? DialBlock.Push(nonce: random.next(), maximumSources: 64, window: 16_384) : nil,
            cookie: .random(using: &random) ? random.next() : nil,
            deadlineMilliseconds: .random(using: &random) ? 30_000 : nil,
            meta: .random(using: &random) ? "metadata" : nil, bucket: .random(using: &random) ? "bücket" : nil,
            source: .random(using: &random)
                ? DialBlock.Source(nonce: random.next(), streamPort: 7, index: 1) : nil)
        if .random(using: &random) { block.identity = "uri spiffe://mesh/client/shop\ndns shop.mesh" }
        var buffer = ByteBuffer()
        block.encode(into: &buffer)
        return Array(buffer.readableBytesView)
    }

    private static func mutate(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
        for _ in 0..<Int.random(in: 0...4, using: &random) {
            switch Int.random(in: 0..<5, using: &random) {
            case 0 where !bytes.isEmpty:
                bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(in: .min ... .max, using: &random)
            case 1 where !bytes.isEmpty:
                bytes.removeLast(Int.random(in: 0...bytes.count, using: &random))
            case 2:
                bytes += (0..<Int.random(in: 0...40, using: &random)).map { _ in
                    UInt8.random(in: .min ... .max, using: &random)
                }
            case 3 where bytes.count > 8:
                let range = Int.random(in: 0..<bytes.count / 2, using: &random)..<bytes.count / 2 + 3
                bytes.insert(contentsOf: Array(bytes[range]), at: Int.random(in: 0...bytes.count, using: &random))
            default:
                bytes.insert(
                    UInt8.random(in: 0...20, using: &random), at: Int.random(in: 0...bytes.count, using: &random))
            }
        }
    }

    @Test func `any payload is decoded or ignored, and what a router forwards has only its own identity`() throws {
        let own = "uri spiffe://mesh/host/router"
        var random = SplitMix64(state: 20_261_201)
        for execution in 0..<Self.executions {
            let state = random.state
            var bytes = Self.randomBlock(&random)
            Self.mutate(&bytes, &random)
            let payload = ByteBuffer(bytes: bytes)
            let block = DialBlock(decoding: payload)
            let identity = execution.isMultiple(of: 2) ? own : nil
            let forwarded = DialBlock.replacingIdentity(in: payload, with: identity) ?? payload
            let received = DialBlock(decoding: forwarded)
            if received?.identity != nil, received?.identity != identity {
                Issue.record("a claimed identity passed: seed \(state)")
            }
            guard var expected = block, let received else { continue }
            // Everything else is unchanged.
            expected.identity = expected.source == nil ? identity : nil
            if received != expected { Issue.record("the router changed a block: seed \(state)") }
        }
    }
}
