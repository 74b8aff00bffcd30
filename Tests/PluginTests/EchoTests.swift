import CChanservPlugin
import Testing

@Suite struct EchoTests {
    @Test(arguments: [0, 1, 65_536, 3_000_000])
    func `the request is returned as one frame`(size: Int) async throws {
        try await onThread {
            let request = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) }
            let call = try Instance(descriptor(ofProduct: "Echo")).open(request)
            let (sources, last) = try call.collect()
            #expect(last.status == end)
            #expect(sources.map(\.header) == [[]])
            #expect(try sources[0].frames(Room(frames: 1, bytes: 1)) == [request])
        }
    }

    @Test func `every configuration key is refused`() async throws {
        try await onThread {
            let refusal = try #require(throws: Refusal.self) {
                try Instance(descriptor(ofProduct: "Echo"), ["loud": .boolean(true)])
            }
            #expect(refusal.status == badRequest)
            #expect(refusal.message == "unknown key loud")
        }
    }

    @Test func `calls and sources can be closed at any point`() async throws {
        try await onThread {
            let instance = try Instance(descriptor(ofProduct: "Echo"))
            _ = try instance.open("never polled")
            let call = try instance.open("cancelled")
            call.cancel()
            let source = try #require(call.poll().items.first)
            source.cancel()
            source.cancel()
            #expect(source.poll().status == internalError)
        }
    }
}
