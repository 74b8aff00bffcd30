import CChanservPlugin
import Foundation
import Testing

@Suite struct WhoamiTests {
    private struct Caller: Decodable, Equatable {
        var identity: String
        var peerAddress: String
        var remoteAddress: String
        var deadlineMilliseconds: Int64?
        var meta: String?
        var bucket: String?
        var traceParent: String?
        var vAddr: String
        var bodySize: Int

        enum CodingKeys: String, CodingKey, CaseIterable {
            case identity
            case peerAddress = "peer_address"
            case remoteAddress = "remote_address"
            case deadlineMilliseconds = "deadline_ms"
            case meta, bucket
            case traceParent = "traceparent"
            case vAddr = "vaddr"
            case bodySize = "body_bytes"
        }
    }

    /// Returns the only frame of the only source, whose header is empty.
    private static func answer(_ body: [UInt8] = [], _ context: Context?) throws -> Data {
        let call = try Instance(descriptor(ofProduct: "Whoami")).open(body, context)
        let (sources, last) = try call.collect()
        try #require(last.status == end && sources.map(\.header) == [[]])
        let frames = try sources[0].frames(Room(frames: 1, bytes: 1))
        try #require(frames.count == 1)
        return Data(frames[0])
    }

    private static func caller(_ body: [UInt8] = [], _ context: Context?) throws -> Caller {
        try JSONDecoder().decode(Caller.self, from: answer(body, context))
    }

    @Test func `all that the host knows about a caller is returned`() async throws {
        try await onThread {
            var context = Context()
            context.deadline = 1_999_999_999
            context.meta = "nightly report"
            context.bucket = "7"
            context.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            context.peerAddress = "192.0.2.7:40112"
            context.identity = "spiffe://mesh/client/shop"
            let expected = Caller(
                identity: "spiffe://mesh/client/shop", peerAddress: "192.0.2.7:40112", remoteAddress: "test",
                deadlineMilliseconds: 1_999, meta: "nightly report", bucket: "7", traceParent: context.traceparent,
                vAddr: "test", bodySize: 1_000)
            let caller = try Self.caller([UInt8](repeating: 0, count: 1_000), context)
            #expect(caller == expected)
        }
    }

    @Test func `fields that the client did not set are null`() async throws {
        try await onThread {
            let json = String(decoding: try Self.answer([], Context()), as: UTF8.self)
            #expect(
                json == #"{"identity":"","peer_address":"","remote_address":"test","deadline_ms":null,"meta":null,"#
                    + #""bucket":null,"traceparent":null,"vaddr":"test","body_bytes":0}"#)
        }
    }

    @Test func `a host of version 1_0 knows only addresses and the body`() async throws {
        try await onThread {
            // All keys are there, with the values of a request without a context.
            let (old, current) = (try Self.answer([1, 2], nil), try Self.answer([1, 2], Context()))
            #expect(old == current)
        }
    }

    @Test(arguments: [
        "\"quoted\" \\ and / \u{7F}", "\u{1}\t\n\r\u{1F}", "grüße 🐟 \u{2028} \u{10FFFF}",
        String(repeating: "\u{2}\"", count: 100_000),
    ])
    func `strings are escaped`(text: String) async throws {
        try await onThread {
            var context = Context()
            (context.meta, context.identity) = (text, text)
            let caller = try Self.caller([], context)
            #expect(caller.meta == text)
            #expect(caller.identity == text)
        }
    }

    @Test(
        arguments: [
            ([0xFF], "\u{FFFD}"),
            // A cut character, an overlong form and a surrogate: one replacement for each byte.
            ([0x61, 0xE2, 0x82], "a\u{FFFD}\u{FFFD}"),
            ([0xC0, 0xAF, 0x62], "\u{FFFD}\u{FFFD}b"),
            ([0xED, 0xA0, 0x80], "\u{FFFD}\u{FFFD}\u{FFFD}"),
        ] as [([UInt8], String)])
    func `bytes that are not UTF-8 are replaced`(bytes: [UInt8], expected: String) async throws {
        try await onThread {
            var context = Context()
            context.rawMeta = bytes
            let caller = try Self.caller([], context)
            #expect(caller.meta == expected)
        }
    }

    @Test func `every configuration key is refused`() async throws {
        try await onThread {
            let refusal = try #require(throws: Refusal.self) {
                try Instance(descriptor(ofProduct: "Whoami"), ["loud": .boolean(true)])
            }
            #expect(refusal.status == badRequest)
        }
    }

    @Test func `calls and sources can be closed at any point`() async throws {
        try await onThread {
            let instance = try Instance(descriptor(ofProduct: "Whoami"))
            _ = try instance.open("never polled")
            let call = try instance.open("cancelled")
            call.cancel()
            let source = try #require(call.poll().items.first)
            source.cancel()
            #expect(source.poll().status == internalError)
        }
    }
}
