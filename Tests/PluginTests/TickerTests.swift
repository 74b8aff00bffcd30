import CChanservPlugin
import Testing

@Suite struct TickerTests {
    @Test func `the requested numbers of sources and frames are sent`() async throws {
        try await onThread {
            let sources = try Instance(descriptor(ofProduct: "Ticker")).sources("3 1ms 10")
            #expect(text(sources.map(\.header)) == ["ticker 1", "ticker 2", "ticker 3"])
            for source in sources { #expect(try text(source.frames()) == (1...10).map { "tick \($0)" }) }
        }
    }

    @Test func `the configuration provides values that the request omits`() async throws {
        try await onThread {
            let configuration: [String: ConfigurationValue] = [
                "sources": .integer(2), "interval": .duration(nanoseconds: 1_000_000), "count": .integer(3),
            ]
            let instance = try Instance(descriptor(ofProduct: "Ticker"), configuration)
            let sources = try instance.sources("")
            #expect(sources.count == 2)
            for source in sources { #expect(try text(source.frames()) == ["tick 1", "tick 2", "tick 3"]) }
            #expect(try instance.sources(" 0 ").isEmpty)
            #expect(try text(instance.sources("1")[0].frames()).count == 3)
        }
    }

    @Test func `an endless source stops when it is cancelled`() async throws {
        try await onThread {
            let source = try Instance(descriptor(ofProduct: "Ticker")).sources("1 1ms 0")[0]
            #expect(try source.texts(5) == (1...5).map { "tick \($0)" })
            source.cancel()
            #expect(source.poll().status == internalError)
        }
    }

    @Test(arguments: [
        "x", "1 1", "1 ms", "1 1ms x", "1 1ms 1 1", "-1", "10001", "1 0ms", "1 25h", "1 1ms -1", "99999999999999999999",
        "1 99999999999h",
    ])
    func `a malformed request is refused`(request: String) async throws {
        try await onThread {
            let instance = try Instance(descriptor(ofProduct: "Ticker"))
            let refusal = try #require(throws: Refusal.self) { try instance.sources(request) }
            #expect(refusal.status == badRequest)
        }
    }

    @Test(
        arguments: [
            ["source": .integer(1)], ["sources": .integer(10_001)], ["interval": .duration(nanoseconds: 1)],
            ["count": .integer(-1)],
        ] as [[String: ConfigurationValue]])
    func `a wrong configuration is refused`(configuration: [String: ConfigurationValue]) async throws {
        try await onThread {
            let refusal = try #require(throws: Refusal.self) {
                try Instance(descriptor(ofProduct: "Ticker"), configuration)
            }
            #expect(refusal.status == badRequest)
        }
    }
}
