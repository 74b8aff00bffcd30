import AstraNet
import Chanserv
import ChanservAstraNet
import NIOCore
import Testing

/// A client of the library with its own node. Each wait has a deadline that only a test that hangs reaches.
struct TestClient: Sendable {
    let node: Node
    let client: Client
    /// Joins the host again when the link is lost or the host goes away; `nil` if the client does not.
    private let joining: Task<Void, Never>?

    static let patience = Duration.seconds(90)

    /// - Parameters:
    ///   - keepsJoined: whether the client joins the host again. `false` by default.
    ///   - staysBehindRouter: whether the client makes no direct links to hosts behind a router. `false` by default.
    init(
        port: Int, keepsJoined: Bool = false, staysBehindRouter: Bool = false,
        configure: (inout Client.Configuration) -> Void = { _ in }
    ) async throws {
        var nodeConfiguration = NodeConfiguration()
        if staysBehindRouter { nodeConfiguration.role = .server }
        let node = Node(configuration: nodeConfiguration)
        self.node = node
        if keepsJoined {
            joining = Task { await node.keepJoined(host: "127.0.0.1", port: port) }
        } else {
            joining = nil
            try await node.join(host: "127.0.0.1", port: port, deadline: .now + Self.patience)
        }
        var configuration = Client.Configuration()
        configuration.dialTimeout = Self.patience
        configuration.masterReadTimeout = Self.patience
        configuration.masterWriteTimeout = Self.patience
        configuration.frameReadTimeout = Self.patience
        configure(&configuration)
        client = Client(multiplexer: AstraNetMultiplexer(node), configuration: configuration)
    }

    /// Posts a request. The test reads its sources.
    func post(_ vAddr: String = "drill", _ body: some Frame) async throws -> ReceivedSources {
        try await client.lookupAndPost(vAddr, body: body)
    }

    /// Posts a request and returns all its sources. None of them is read.
    func sources(_ vAddr: String = "drill", _ body: some Frame) async throws -> [ReceivedSource] {
        var sources: [ReceivedSource] = []
        for try await source in try await post(vAddr, body) { sources.append(source) }
        return sources
    }

    /// Posts a request and returns all its sources. The first frame of each is read.
    func begun(_ vAddr: String = "drill", _ body: some Frame) async throws -> [BegunSource] {
        var begun: [BegunSource] = []
        for source in try await sources(vAddr, body) {
            var rest = source.frames.makeAsyncIterator()
            begun.append(BegunSource(first: try #require(try await rest.next()), rest: rest))
        }
        return begun
    }

    /// Posts a request and returns the frames of each source. It reads one source after the other.
    func frames(_ vAddr: String = "drill", _ body: some Frame) async throws -> [[ReceivedFrame]] {
        var all: [[ReceivedFrame]] = []
        for try await source in try await post(vAddr, body) {
            #expect(String(buffer: source.header) == "\(all.count)")
            all.append(try await source.frames.all())
        }
        return all
    }

    /// Returns the counts of the drill plugin. The command is `stats`, `idle` or `closed …`.
    func report(_ vAddr: String = "drill", _ command: String) async throws -> DrillReport {
        let frames = try await frames(vAddr, command)
        return DrillReport(try #require(frames.first?.first).string)
    }

    /// Closes the link at once.
    func close() async {
        joining?.cancel()
        await node.shutdown(grace: .zero)
    }
}

/// A source whose first frame has been read.
struct BegunSource {
    let first: ReceivedFrame
    var rest: ReceivedFrames.Iterator

    /// Reads to the end and returns all frames, including the first one.
    mutating func all() async throws -> [ReceivedFrame] {
        var frames = [first]
        while let frame = try await rest.next() { frames.append(frame) }
        return frames
    }
}

extension ReceivedFrames {
    /// Reads all frames to the end.
    func all() async throws -> [ReceivedFrame] {
        var frames: [ReceivedFrame] = []
        var iterator = makeAsyncIterator()
        while case let batch = try await iterator.nextBatch(), !batch.isEmpty { frames += batch }
        return frames
    }
}

/// The error that `body` throws.
func failure<T>(of body: () async throws -> T) async throws -> ChanservError {
    do {
        _ = try await body()
    } catch let error as ChanservError {
        return error
    }
    throw NothingThrown()
}

struct NothingThrown: Error {}
