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
    for _ in 0..<count {
        try world.run { client in
            var frames = 0
            for try await source in try await client.lookupAndPost(World.name, body: ByteBuffer()) {
                for try await _ in source.frames { frames += 1 }
            }
            try expect(frames, 1, "frames of a request")
        }
        world.pass(.milliseconds(1))
    }
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
private struct World {
    static let name = "frames"

    let loop = EmbeddedEventLoop()
    let thread = OneThread()
    let server: Node
    let client: Node

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
        var configuration = Server.Configuration()
        configuration.executor = thread
        let server = Server(multiplexer: AstraNetMultiplexer(server), configuration: configuration)
        _ = try server.serve(Self.name) { _ in SourceList([source()]) }
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
