import AstraNet
import Chanserv
import ChanservAstraNet
import Logging
import NIOCore
import NIOEmbedded

/// Sends small frames from a server's source over two nodes and a simulated wire to a client's loop.
func handOver(_ count: Int) throws {
    let world = try NodePair()
    try world.serve { Source(header: "", producer: SmallFrames(count)) }
    try world.run { client in
        var frames = 0
        for try await source in try await client.lookupAndPost(NodePair.name, body: ByteBuffer()) {
            for try await frame in source.frames { frames += frame.count == smallPayload.count ? 1 : 0 }
        }
        try expect(frames, count, "frames handed over")
    }
}

/// Whole requests, one after the other. Each answer has one source with one empty frame, and the client reads all of
/// it.
func requests(_ count: Int) throws {
    let world = try NodePair()
    try world.serve { Source(header: "", frames: [ByteBuffer()]) }
    try world.post(count)
}

/// As ``requests(_:)``, answered without a task, as an inline plugin answers.
func requestsWithoutTasks(_ count: Int) throws {
    let world = try NodePair()
    try world.serve(handler: OneFrame())
    try world.post(count)
}

/// Answers each request with one source of one empty frame, at once.
private struct OneFrame: RequestHandler {
    func begin(_ request: Request, in scope: RequestScope) {
        let work = OneFrameWork()
        guard scope.attach(work) else { return scope.handlerFinished() }
        if case .added(let source) = scope.add(header: ByteBuffer(), { OneFrameSource($0) }) {
            source.start()
            scope.finish(nil)
        } else {
            scope.finish(Failure("the request refused its first source"))
        }
        scope.handlerFinished()
    }
}

/// Does nothing: `begin` adds the only source at once.
private final class OneFrameWork: RequestWork {
    func resume() {}
    func cancel() {}
}

private final class OneFrameSource: SourceWork {
    private let output: SourceScope

    init(_ output: SourceScope) { self.output = output }

    func resume() {
        var batch = FrameBatch()
        do {
            try batch.append(ByteBuffer())
        } catch {
            return output.finish(error)
        }
        // The result does not matter: the client may have closed the source.
        _ = output.write(&batch)
        output.finish(nil)
    }

    func cancel() {}
}

/// 64 KiB at a time over a stream between two nodes.
func stream(_ count: Int) throws {
    let world = try NodePair()
    let bytes = ByteBuffer(repeating: 0x5A, count: 65_536)
    let listener = try world.server.bind("bytes")
    world.start {
        let stream = try await listener.nextStream()
        for _ in 0..<count { try await stream.send(bytes) }
        stream.close()
    }
    try world.runOnNodes { node in
        let stream = try await node.dial("bytes", deadline: .now + .seconds(60))
        var received = 0
        while let bytes = try await stream.receive() { received += bytes.readableBytes }
        stream.close()
        try expect(received, count * 65_536, "bytes received")
    }
}

/// A source of small frames, produced in batches as a plugin does.
///
/// `@unchecked Sendable`: only `produce` uses the state, and its calls never overlap.
private final class SmallFrames: FrameProducer, @unchecked Sendable {
    private var left: Int

    init(_ count: Int) {
        left = count
    }

    func produce(into batch: inout FrameBatch) async throws -> Bool {
        try smallPayload.withUnsafeBytes { payload in
            while left > 0, !batch.isFull {
                try batch.append(copying: payload)
                left -= 1
            }
        }
        return left > 0
    }

    func close() {}
}

/// The node of a server and the node of a client, with a link between them. All their code runs on the main thread.
private final class NodePair {
    static let name = "frames"

    let loop = EmbeddedEventLoop()
    let thread = OneThread()
    let server: Node
    let client: Node
    /// Serves as long as this reference exists.
    private var retainedServer: Server?

    init() throws {
        let wire = Wire(on: loop)
        server = Self.node(1, loop, wire)
        client = Self.node(2, loop, wire)
        let (server, client) = (server, client)
        try runOnNodes { _ in
            try await server.listen(host: "10.0.0.1", port: 1)
            try await client.join(host: "10.0.0.1", port: 1, deadline: .now + .seconds(60))
        }
    }

    private static func node(_ number: UInt64, _ loop: EmbeddedEventLoop, _ wire: Wire) -> Node {
        let generator = SeededRandom(number)
        let start = ContinuousClock.now
        return Node(
            configuration: NodeConfiguration(), group: loop,
            logger: Logger(label: "") { _ in SwiftLogNoOpLogHandler() },
            surroundings: NodeDependencies(
                now: { start + .nanoseconds(Int64(loop.now.uptimeNanoseconds)) }, random: { generator.next() },
                network: wire))
    }

    func serve(_ source: @escaping @Sendable () -> Source) throws {
        _ = try makeServer().serve(Self.name) { _ in SourceList([source()]) }
    }

    func serve(handler: some RequestHandler) throws {
        _ = try makeServer().serve(Self.name, handler: handler)
    }

    private func makeServer() -> Server {
        var configuration = Server.Configuration()
        configuration.executor = thread
        let chanservServer = Server(multiplexer: AstraNetMultiplexer(server), configuration: configuration)
        retainedServer = chanservServer
        return chanservServer
    }

    /// Posts requests one after the other, and reads the one frame of each.
    func post(_ count: Int) throws {
        for _ in 0..<count {
            try run { client in
                var frames = 0
                for try await source in try await client.lookupAndPost(NodePair.name, body: ByteBuffer()) {
                    for try await _ in source.frames { frames += 1 }
                }
                try expect(frames, 1, "frames of a request")
            }
            pass(.milliseconds(1))
        }
    }

    /// Runs `body` and the work of the nodes until `body` ends.
    func run(_ body: @escaping @Sendable (Client) async throws -> Void) throws {
        let client = Client(multiplexer: AstraNetMultiplexer(client))
        try thread.run({ try await body(client) }, elsewhere: runLoop)
    }

    func runOnNodes(_ body: @escaping @Sendable (Node) async throws -> Void) throws {
        let client = client
        try thread.run({ try await body(client) }, elsewhere: runLoop)
    }

    /// Starts a task that runs beside `run`.
    func start(_ body: @escaping @Sendable () async throws -> Void) {
        Task(executorPreference: thread) {
            do { try await body() } catch { fatalError("\(error)") }
        }
    }

    /// Advances the virtual time and runs the work that becomes due.
    func pass(_ time: TimeAmount) {
        loop.advanceTime(by: time)
        while thread.runWaiting() { loop.run() }
    }

    private func runLoop() -> Bool {
        loop.run()
        return thread.runWaiting()
    }
}

/// A random source that returns the same numbers in each run: a counter whose bits are mixed.
///
/// `@unchecked Sendable`: used on the main thread only.
private final class SeededRandom: @unchecked Sendable {
    private var state: UInt64

    init(_ seed: UInt64) {
        state = seed
    }

    func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        let mixed = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
        return mixed ^ (mixed >> 27)
    }
}
