import AstraNet
import Chanserv
import ChanservAstraNet
import Logging
import NIOCore
import NIOEmbedded

/// Small frames all the way: a server's source, two nodes and the wire between them, a client's loop.
func handOver(_ count: Int) throws {
    let world = try World()
    try world.serve { Source(header: "", producer: SmallFrames(count)) }
    try world.run { client in
        var frames = 0
        for try await source in try await client.lookupAndPost(World.name, body: ByteBuffer()) {
            for try await frame in source.frames { frames += frame.count == smallPayload.count ? 1 : 0 }
        }
        try expect(frames, count, "frames handed over")
    }
}

/// Whole requests, one after the other: each is answered with one source of one empty frame, and read to its end.
func requests(_ count: Int) throws {
    let world = try World()
    try world.serve { Source(header: "", frames: [ByteBuffer()]) }
    try world.post(count)
}

/// As ``requests(_:)``, answered without a task, as a plugin is that may be called on the event loop.
func requestsWithoutTasks(_ count: Int) throws {
    let world = try World()
    try world.serve(handler: OneFrame())
    try world.post(count)
}

/// Answers each request with one source of one empty frame, at once.
private struct OneFrame: RequestHandler {
    func begin(_ request: Request, in scope: RequestScope) {
        let work = OneFrameWork()
        guard scope.attach(work) else { return scope.released() }
        if case .added(let source) = scope.add(header: ByteBuffer(), { OneFrameSource($0) }) {
            source.start()
            scope.finish(nil)
        } else {
            scope.finish(Failure("the first source of a request was not taken"))
        }
        scope.released()
    }
}

/// Its only source is added at once: there is nothing to go on with.
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
        // The client may have given the source up: the output knows.
        _ = output.write(&batch)
        output.finish(nil)
    }

    func cancel() {}
}

/// 64 KiB at a time over a stream between two nodes.
func stream(_ count: Int) throws {
    let world = try World()
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

/// A source of small frames, which are made as a plugin makes them: a batch at a time.
///
/// `@unchecked Sendable`: `produce` is never called concurrently with itself, and nothing else touches it.
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

/// A server's node and a client's, linked, with all that runs on them on the main thread.
private final class World {
    static let name = "frames"

    let loop = EmbeddedEventLoop()
    let thread = OneThread()
    let server: Node
    let client: Node
    /// Serves for as long as it is held.
    private var host: Server?

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
        let chance = Chance(number)
        let start = ContinuousClock.now
        return Node(
            configuration: NodeConfiguration(), group: loop,
            logger: Logger(label: "") { _ in SwiftLogNoOpLogHandler() },
            surroundings: Surroundings(
                now: { start + .nanoseconds(Int64(loop.now.uptimeNanoseconds)) }, random: { chance.next() },
                network: wire))
    }

    func serve(_ source: @escaping @Sendable () -> Source) throws {
        _ = try makeHost().serve(Self.name) { _ in SourceList([source()]) }
    }

    func serve(handler: some RequestHandler) throws {
        _ = try makeHost().serve(Self.name, handler: handler)
    }

    private func makeHost() -> Server {
        var configuration = Server.Configuration()
        configuration.executor = thread
        let host = Server(multiplexer: AstraNetMultiplexer(server), configuration: configuration)
        self.host = host
        return host
    }

    /// Posts requests one after the other, and reads the one frame of each.
    func post(_ count: Int) throws {
        for _ in 0..<count {
            try run { client in
                var frames = 0
                for try await source in try await client.lookupAndPost(World.name, body: ByteBuffer()) {
                    for try await _ in source.frames { frames += 1 }
                }
                try expect(frames, 1, "frames of a request")
            }
            pass(.milliseconds(1))
        }
    }

    /// Runs `body` to its end, with whatever the nodes have to do for it.
    func run(_ body: @escaping @Sendable (Client) async throws -> Void) throws {
        let client = Client(multiplexer: AstraNetMultiplexer(client))
        try thread.run({ try await body(client) }, elsewhere: runLoop)
    }

    func runOnNodes(_ body: @escaping @Sendable (Node) async throws -> Void) throws {
        let client = client
        try thread.run({ try await body(client) }, elsewhere: runLoop)
    }

    /// Begins something that runs along.
    func start(_ body: @escaping @Sendable () async throws -> Void) {
        Task(executorPreference: thread) {
            do { try await body() } catch { fatalError("\(error)") }
        }
    }

    /// Lets time go by, with what is due in it.
    func pass(_ time: TimeAmount) {
        loop.advanceTime(by: time)
        while thread.runWaiting() { loop.run() }
    }

    private func runLoop() -> Bool {
        loop.run()
        return thread.runWaiting()
    }
}

/// The same numbers each time: a counter, mixed.
///
/// `@unchecked Sendable`: used on the main thread alone.
private final class Chance: @unchecked Sendable {
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
