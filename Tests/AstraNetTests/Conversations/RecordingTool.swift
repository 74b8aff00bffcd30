import AstraNet
import Chanserv
import ChanservAstraNet
import Foundation
import Logging
import NIOCore
import Testing

/// The folder for new recordings; `nil` unless they are requested.
private let recordingFolder = ProcessInfo.processInfo.environment["CHANSERV_RECORD"]

/// Records the conversations in `Fixtures` again: `CHANSERV_RECORD=<folder> swift test --filter RecordingTool`.
@Suite(.enabled(if: recordingFolder != nil, "set CHANSERV_RECORD to a folder to record conversations"))
struct RecordingTool {
    private static let sources = (0..<3).map { source in
        PlainSource(
            header: Array("source \(source) of 3".utf8),
            frames: (0..<2).map { frame in
                Array(String(repeating: "frame \(source).\(frame) ", count: 20).utf8)
            })
    }
    private static let large = [PlainSource(frames: [(0..<70_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }])]

    private func server(_ sources: [PlainSource], compression: Bool = false) throws -> Node {
        let node = Node.withoutTimeouts()
        var configuration = Server.Configuration.withoutTimeouts
        configuration.compression = compression
        _ = try Server(multiplexer: AstraNetMultiplexer(node), configuration: configuration)
            .serve("service") { _ in
                SourceList(sources.map { Source(header: $0.header, frames: $0.frames) })
            }
        return node
    }

    private func save(_ proxy: RecordingProxy, as name: String) async throws {
        try await proxy.close()
        let file = URL(fileURLWithPath: recordingFolder!).appendingPathComponent("\(name).jsonl")
        try proxy.recording().write(to: file, atomically: true, encoding: .utf8)
    }

    @Test(arguments: [
        ("swift-three-sources", sources, false), ("swift-compressed", sources, true), ("swift-window", large, false),
        ("swift-no-sources", [], false),
    ])
    func `records two nodes of this library`(name: String, sources: [PlainSource], compression: Bool) async throws {
        let server = try server(sources, compression: compression)
        let proxy = try await RecordingProxy(to: try await server.listen(host: "127.0.0.1", port: 0))
        let node = Node.withoutTimeouts()
        try await node.join(host: "127.0.0.1", port: proxy.address.port!, deadline: .testDeadline)
        let client = Client(multiplexer: AstraNetMultiplexer(node), configuration: .withoutTimeouts)
        let received = try await GoInteropTests.read(try await client.lookupAndPost("service", body: "request"))
        #expect(received == sources)
        await node.shutdown()
        await server.shutdown()
        try await save(proxy, as: name)
    }

    @Test func `records a Go-like client`() async throws {
        let server = try server(Self.sources)
        let proxy = try await RecordingProxy(to: try await server.listen(host: "127.0.0.1", port: 0))
        let go = try await GoLikePeer.join(proxy.address)
        #expect(try await go.post("service", Array("request".utf8)) == Self.sources)
        #expect(go.broken == [])
        await go.close()
        await server.shutdown()
        try await save(proxy, as: "go-like-client")
    }

    @Test func `records a Go-like server`() async throws {
        let listener = try await RawPeer.listen()
        let proxy = try await RecordingProxy(to: listener.server.localAddress!)
        let node = Node.withoutTimeouts()
        async let joined = node.join(host: "127.0.0.1", port: proxy.address.port!, deadline: .testDeadline)
        let go = GoLikePeer.accept(try #require(await listener.peers.next()))
        _ = try await joined
        let serving = Task { try await go.serve("service") { _ in Self.large } }
        let client = Client(multiplexer: AstraNetMultiplexer(node), configuration: .withoutTimeouts)
        let received = try await GoInteropTests.read(try await client.lookupAndPost("service", body: "request"))
        #expect(received == Self.large)
        #expect(go.broken == [])
        await node.shutdown()
        try await serving.value
        try await listener.close()
        try await save(proxy, as: "go-like-server")
    }
}
