import AstraNet
import Chanserv
import NIOCore

/// The requests of all clients: what each must get, what its server made of it, and how it ended.
///
/// `@unchecked Sendable`: see ``World``.
final class RequestWorkload: @unchecked Sendable {
    let world: World
    /// There is a Go-like router. One that has two links to a host says nothing when it loses the one with the host's streams, so
    /// that only a timeout of their server ends them.
    var losesClientsSilently = false
    /// Requests that have begun and not ended at their clients.
    private(set) var open: Set<UInt64> = []
    /// Requests that code of a server works on.
    private(set) var served: Set<UInt64> = []
    /// Sources whose producers are not closed.
    private(set) var openProducers = 0
    private(set) var completed = 0
    private(set) var failed = 0
    private var records: [UInt64: Record] = [:]
    /// All of our nodes' servers there ever were.
    private var servers: [AnsweringServer] = []

    /// A request as its server sees it.
    private struct Record {
        var isServedByGo: Bool
        /// By source: how many frames were made.
        var made: [Int: Int] = [:]
    }

    /// How a request ended at its client.
    enum Outcome {
        case whole
        /// As its client wanted.
        case givenUp
        case failed(any Error)
    }

    init(world: World) {
        self.world = world
    }

    func add(_ server: AnsweringServer) { servers.append(server) }

    /// What has not ended, at clients or at servers.
    func unsettled() -> String? {
        if !open.isEmpty { return "requests hang: \(open.sorted())" }
        for server in servers {
            if let problem = server.leftovers() { return problem }
        }
        if !served.isEmpty { return "code of servers still lists requests \(served.sorted())" }
        return openProducers > 0 ? "\(openProducers) producers are not closed" : nil
    }

    /// Looks at the servers while requests run.
    func check() {
        for server in servers {
            if let problem = server.overdue() { world.broken(problem) }
        }
    }

    // MARK: - Clients

    @discardableResult
    func post(
        _ request: SimulatedRequest, through node: any SimulatedNode,
        ended: @escaping @Sendable (Outcome) -> Void = { _ in }
    ) -> Task<Void, Never> {
        open.insert(request.id)
        let task = world.task {
            let outcome = await node.run(request, for: self)
            if self.open.remove(request.id) == nil { self.world.broken("request \(request.id) ended twice") }
            switch outcome {
            case .whole, .givenUp: self.completed += 1
            case .failed(let error):
                self.failed += 1
                self.world.note("request \(request.id) failed: \(error)")
            }
            ended(outcome)
        }
        // No client waits for ever.
        world.after(SimulatedRequest.longest) { task.cancel() }
        if request.behaviour == .cancelsTask {
            var random = SeededRandom(request.seed, 13)
            world.after(random.next() % (2 * World.second)) { task.cancel() }
        }
        return task
    }

    /// Whether a Go-like server got the request.
    func isServedByGo(_ id: UInt64) -> Bool { records[id]?.isServedByGo ?? false }

    /// How many frames of a source its server has made.
    func madeFrames(of index: Int, of id: UInt64) -> Int { records[id]?.made[index] ?? 0 }

    /// Nothing may return after its time.
    func onTime<Value: Sendable>(
        _ limit: UInt64, _ what: String, _ body: @Sendable () async throws -> Value
    ) async throws -> Value {
        let deadline = world.now + limit
        defer {
            if world.now > deadline + World.millisecond {
                world.broken("\(what) returned \((world.now - deadline) / World.millisecond) ms after its time")
            }
        }
        return try await body()
    }

    /// Between ends that keep the rules, no end finds that one was broken.
    func judge(_ error: any Error, of id: UInt64, _ what: @autoclosure () -> String) {
        guard let error = error as? ChanservError else { return }
        let cause = (error.cause as? ConnectionError)?.code
        let isForbidden: Bool =
            switch error.code {
            case .wrongFrameSize, .wrongUncompressedFrameSize, .corruptCompression, .wrongAnnouncement, .limitReached,
                .addressInUse:
                true
            // A Go-like server has only one way to end a stream.
            case .truncatedFrame: !isServedByGo(id)
            default: cause == .protocolViolation || cause == .limitReached
            }
        if isForbidden { world.broken("request \(id), \(what()): \(error)") }
    }

    // MARK: - Servers

    /// The body of a request came to a server, whose code begins to work on it.
    func begin(_ body: ByteBuffer, isGoLike: Bool) -> (id: UInt64, answer: Answer)? {
        guard let (id, seed) = RequestBody.read(body) else {
            world.broken("a server got a body of \(body.readableBytes) bytes that no client posted")
            return nil
        }
        if records[id] != nil { world.broken("request \(id) came twice") }
        records[id] = Record(isServedByGo: isGoLike)
        served.insert(id)
        return (id, Answer(id: id, seed: seed))
    }

    /// The server's code has listed the sources of a request, or given it up.
    func listed(_ id: UInt64) {
        if served.remove(id) == nil { world.broken("request \(id) ended twice at its server") }
    }

    func producerBegins() { openProducers += 1 }

    func producerEnds() {
        openProducers -= 1
        if openProducers < 0 { world.broken("a producer was closed twice") }
    }

    func made(_ frames: Int, of index: Int, of id: UInt64) {
        records[id]?.made[index, default: 0] += frames
        world.mix(id ^ UInt64(index) << 32 ^ UInt64(frames))
    }
}

extension SimulatedRequest {
    /// At this time after its post a request is cancelled if it goes on.
    static let longest = 30 * World.second
}

/// What a client has got of an answer, compared with what it must get.
///
/// `@unchecked Sendable`: see ``World``.
final class ReceivedAnswer: @unchecked Sendable {
    private let id: UInt64
    private let answer: Answer
    private let workload: RequestWorkload
    private var frames: [Int] = []
    private var hasEnded = false
    private var endedSources: Set<Int> = []

    init(_ request: SimulatedRequest, _ workload: RequestWorkload) {
        id = request.id
        answer = Answer(id: request.id, seed: request.seed)
        self.workload = workload
    }

    private func broken(_ rule: String) { workload.world.broken("request \(id): \(rule)") }

    /// The next source came.
    ///
    /// - Returns: its number.
    func source(header: ByteBuffer) -> Int {
        let index = frames.count
        frames.append(0)
        if hasEnded { broken("a source behind the end") }
        if index >= answer.sources.count {
            broken("source \(index) of \(answer.sources.count)")
        } else if !answer.isRight(header, frame: -1, of: index, of: id) {
            broken("a wrong header of source \(index)")
        }
        workload.world.mix(id &* 31 ^ UInt64(index))
        return index
    }

    func frame(_ bytes: ByteBuffer, of index: Int) {
        guard index < answer.sources.count else { return }
        let frame = frames[index]
        frames[index] += 1
        if endedSources.contains(index) { broken("a frame behind the end of source \(index)") }
        if frame >= workload.madeFrames(of: index, of: id) {
            broken("frame \(frame) of source \(index), which was not made")
        } else if !answer.isRight(bytes, frame: frame, of: index, of: id) {
            broken("wrong bytes in frame \(frame) of source \(index)")
        }
        workload.world.mix(id &* 37 ^ UInt64(index) << 32 ^ UInt64(frame))
    }

    /// The source ended well.
    func sourceEnded(_ index: Int) {
        guard index < answer.sources.count else { return }
        let source = answer.sources[index]
        if !endedSources.insert(index).inserted { broken("source \(index) ended twice") }
        if frames[index] != source.frameSizes.count {
            broken("the end of source \(index) after \(frames[index]) of \(source.frameSizes.count) frames")
        }
        if source.end != .well, !workload.isServedByGo(id) { broken("source \(index) ended well, and must not have") }
    }

    /// All sources came.
    func ended() {
        if hasEnded { broken("it ended twice") }
        hasEnded = true
        if frames.count != answer.sources.count {
            broken("the end after \(frames.count) of \(answer.sources.count) sources")
        }
        if answer.end != .well, !workload.isServedByGo(id) { broken("it ended well, and must not have") }
    }

    /// Something failed: nothing may come behind it.
    func failed() {
        if hasEnded { broken("it failed behind its end") }
        hasEnded = true
    }

    func sourceFailed(_ index: Int) {
        if !endedSources.insert(index).inserted { broken("source \(index) failed behind its end") }
    }
}
