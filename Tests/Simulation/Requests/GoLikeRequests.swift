import AstraNet
import Chanserv
import NIOCore

/// The chanserv server of a Go-like node. It has named sources only, and it reports a failure only by the end of a
/// stream.
struct GoLikeServer: Sendable {
    let node: GoLikeNode
    let workload: RequestWorkload

    /// Time after which a source that is not fetched is dropped.
    private static let acceptTimeout = 10 * World.second

    func serve(_ name: String) {
        node.bind(name) { stream in
            workload.world.task {
                do {
                    try await answer(stream)
                } catch {
                    workload.world.note("a Go-like server: \(error)")
                }
                stream.close()
            }
        }
    }

    private func answer(_ stream: any SimulatedStream) async throws {
        let world = workload.world
        let frames = GoLikeFrames(stream, world, decompresses: false)
        guard let body = try await frames.next(within: 20 * World.second) else { return }
        guard let (id, answer) = workload.begin(body, isGoLike: true) else { return }
        defer { workload.listed(id) }
        var random = SeededRandom(id, 17)
        var names: [String] = []
        for index in answer.sources.indices where !stream.isPeerClosed {
            if random.chance(20) { await world.sleep(random.next() % (100 * World.millisecond)) }
            let name = workload.guardPlan == nil ? "source-\(random.next())" : random.sourceName()
            let unfetched = node
            node.bind(name) { stream in
                unfetched.unbind(name)
                world.task {
                    do {
                        try await send(answer, index, of: id, to: stream)
                    } catch {
                        world.note("a Go-like source: \(error)")
                    }
                    stream.close()
                }
            }
            names.append(name)
            world.after(Self.acceptTimeout) { unfetched.unbind(name) }
            try await frames.send([answer.header(index, of: id), ByteBuffer(string: name)], within: 20 * World.second)
        }
        if stream.isPeerClosed { for name in names { node.unbind(name) } }
    }

    private func send(_ answer: Answer, _ index: Int, of id: UInt64, to stream: any SimulatedStream) async throws {
        let frames = GoLikeFrames(stream, workload.world, decompresses: false)
        var random = SeededRandom(id, 18, UInt64(index))
        for frame in answer.sources[index].frameSizes.indices {
            workload.made(1, of: index, of: id)
            try await frames.send([answer.frame(frame, of: index, of: id)], within: 20 * World.second)
            if random.chance(5) { await workload.world.sleep(random.next() % (100 * World.millisecond)) }
        }
    }
}

/// The client of one request on a Go-like node.
///
/// `@unchecked Sendable`: see ``World``.
final class GoLikeClient: @unchecked Sendable {
    private let request: SimulatedRequest
    private let node: GoLikeNode
    private let workload: RequestWorkload
    private let received: ReceivedAnswer
    private var failure: (any Error)?
    private var readers: [Task<Void, Never>] = []
    private var openReaders = 0
    private var isGivenUp = false

    private var world: World { workload.world }

    init(_ request: SimulatedRequest, _ workload: RequestWorkload, _ node: GoLikeNode) {
        self.request = request
        self.node = node
        self.workload = workload
        received = ReceivedAnswer(request, workload)
    }

    func run() async -> RequestWorkload.Outcome {
        // On cancellation the readers must be cancelled: a dial of a dropped name takes 10 s, and there may be
        // hundreds.
        await withTaskCancellationHandler {
            do {
                try await post()
            } catch {
                workload.judge(error, of: request.id, "a Go-like client")
                failure = failure ?? error
            }
            while openReaders > 0 { await world.sleep(10 * World.millisecond) }
        } onCancel: {
            for reader in readers { reader.cancel() }
        }
        if isGivenUp || Task.isCancelled { return .endedEarly }
        return failure.map { .failed($0) } ?? .whole
    }

    private func post() async throws {
        var random = SeededRandom(request.seed, 19)
        var body = ByteBuffer()
        let bytes = RequestBody.bytes(of: request)
        body.writeInteger(UInt64(bytes.readableBytes), endianness: .little)
        body.writeImmutableBuffer(bytes)
        let stream = try await node.dial(request.name, first: body, deadline: world.now + 10 * World.second)
        defer { stream.close() }
        let frames = GoLikeFrames(stream, world, decompresses: false)
        let most = request.behaviour == .stopsEarly ? random.pick(0...3) : Int.max
        var count = 0
        while count < most, !Task.isCancelled {
            guard let header = try await frames.next(within: 15 * World.second) else {
                received.ended()
                return
            }
            let index = received.source(header: header)
            guard let name = try await frames.next(within: 15 * World.second) else {
                world.broken("request \(request.id): end of file between header and name")
                return
            }
            count += 1
            openReaders += 1
            let seed = random.next()
            let reader = world.task {
                await self.read(String(buffer: name), index, SeededRandom(seed))
                self.openReaders -= 1
            }
            readers.append(reader)
            if Task.isCancelled { reader.cancel() }
            if request.behaviour == .slow { await world.sleep(random.next() % (300 * World.millisecond)) }
            if request.behaviour == .inOrder { await reader.value }
        }
        isGivenUp = true
    }

    private func read(_ name: String, _ index: Int, _ random: SeededRandom) async {
        var random = random
        do {
            let stream = try await node.dial(name, first: ByteBuffer(), deadline: world.now + 10 * World.second)
            defer { stream.close() }
            let frames = GoLikeFrames(stream, world, decompresses: true)
            let most = request.behaviour == .dropsSources && random.chance(30) ? random.pick(0...3) : Int.max
            for _ in 0..<most {
                guard let frame = try await frames.next(within: 15 * World.second) else {
                    received.sourceEnded(index)
                    return
                }
                received.frame(frame, of: index)
                if request.behaviour == .slow { await world.sleep(random.next() % (50 * World.millisecond)) }
            }
            isGivenUp = true
        } catch {
            received.sourceFailed(index)
            workload.judge(error, of: request.id, "source \(index) of a Go-like client")
            failure = failure ?? error
        }
    }
}
