import AstraNet
import Chanserv
import NIOCore

/// The requests of all clients: which are open, what their servers have produced, and how they ended.
///
/// `@unchecked Sendable`: see ``World``.
final class RequestWorkload: @unchecked Sendable {
    let world: World
    /// Whether there is a Go-like router. If such a router has two links to a host, it sends nothing when it loses the
    /// link with the host's streams. Only a timeout of the server ends them.
    var losesClientsSilently = false
    /// Requests that have not ended at their clients.
    private(set) var open: Set<UInt64> = []
    /// Requests whose sources the code of a server is still listing.
    private(set) var served: Set<UInt64> = []
    /// Sources whose producers are not closed.
    private(set) var openProducers = 0
    private(set) var completed = 0
    private(set) var failed = 0
    private var records: [UInt64: Record] = [:]
    /// The identities and rules of a guarded seed.
    var guardPlan: GuardPlan?
    /// The host of the client of each request, by id.
    private var clients: [UInt64: Int] = [:]
    /// All servers of nodes of this library, including crashed ones.
    private var servers: [AnsweringServer] = []

    /// The state of a request at its server.
    private struct Record {
        var isServedByGo: Bool
        /// Number of produced frames, by source.
        var made: [Int: Int] = [:]
    }

    /// How a request ended at its client.
    enum Outcome {
        case whole
        /// Ended early by its client.
        case endedEarly
        case failed(any Error)
    }

    init(world: World) {
        self.world = world
    }

    func add(_ server: AnsweringServer) { servers.append(server) }

    /// Requests, sources or producers that have not ended at clients or servers.
    func unsettled() -> String? {
        if !open.isEmpty { return "requests hang: \(open.sorted())" }
        for server in servers {
            if let problem = server.leftovers() { return problem }
        }
        if !served.isEmpty { return "code of servers still lists requests \(served.sorted())" }
        return openProducers > 0 ? "\(openProducers) producers are not closed" : nil
    }

    /// Checks the deadlines at all servers while requests run.
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
        if guardPlan != nil { clients[request.id] = request.host }
        let task = world.task {
            let outcome = await node.run(request, for: self)
            if self.open.remove(request.id) == nil { self.world.broken("request \(request.id) ended twice") }
            switch outcome {
            case .whole, .endedEarly: self.completed += 1
            case .failed(let error):
                self.failed += 1
                self.world.note("request \(request.id) failed: \(error)")
            }
            ended(outcome)
        }
        // Every request ends: a client cancels it after 30 s.
        world.after(SimulatedRequest.longest) { task.cancel() }
        if request.behaviour == .cancelsTask {
            var random = SeededRandom(request.seed, 13)
            world.after(random.next() % (2 * World.second)) { task.cancel() }
        }
        return task
    }

    /// Whether a Go-like server received the request.
    func isServedByGo(_ id: UInt64) -> Bool { records[id]?.isServedByGo ?? false }

    /// Number of frames of a source that its server has produced.
    func madeFrames(of index: Int, of id: UInt64) -> Int { records[id]?.made[index] ?? 0 }

    /// Checks that `body` returns within `limit`.
    func onTime<Value: Sendable>(
        _ limit: UInt64, _ operation: String, _ body: @Sendable () async throws -> Value
    ) async throws -> Value {
        let deadline = world.now + limit
        defer {
            if world.now > deadline + World.millisecond {
                world.broken("\(operation) took \((world.now - deadline) / World.millisecond) ms too long")
            }
        }
        return try await body()
    }

    /// Records an error as broken if a correct client and server can never cause it.
    func judge(_ error: any Error, of id: UInt64, _ what: @autoclosure () -> String) {
        if GuardPlan.isOfAdversary(error) { world.broken("request \(id), \(what()): \(error)") }
        guard let error = error as? ChanservError else { return }
        let cause = (error.cause as? ConnectionError)?.code
        let isForbidden: Bool =
            switch error.code {
            case .wrongFrameSize, .wrongUncompressedFrameSize, .corruptCompression, .wrongAnnouncement, .limitReached,
                .addressInUse:
                true
            // A Go-like server reports a failure as an end of file, which may be inside a frame.
            case .truncatedFrame: !isServedByGo(id)
            default: cause == .protocolViolation || cause == .limitReached
            }
        if isForbidden { world.broken("request \(id), \(what()): \(error)") }
    }

    // MARK: - Servers

    /// Records that a server has received the body of a request. Returns the answer that it must give.
    ///
    /// - Parameter identity: the verified identity of the caller; `nil` if the server verifies none.
    func begin(_ body: ByteBuffer, isGoLike: Bool, from identity: String? = nil) -> (id: UInt64, answer: Answer)? {
        guard let (id, seed) = RequestBody.read(body) else {
            world.broken("a server got a body of \(body.readableBytes) bytes that no client posted")
            return nil
        }
        if let guardPlan, let identity {
            // The server has checked before that it may serve the caller.
            let caller = SimulatedCaller(identity: identity, isNamed: true)
            if let problem = guardPlan.problem(with: caller, of: clients[id]) {
                world.broken("request \(id): \(problem)")
                return nil
            }
        }
        if records[id] != nil { world.broken("request \(id) reached a server twice") }
        records[id] = Record(isServedByGo: isGoLike)
        served.insert(id)
        return (id, Answer(id: id, seed: seed))
    }

    /// Records that the server's code has finished or stopped listing the sources of a request.
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
    /// Time after which the client cancels a request.
    static let longest = 30 * World.second
}

/// Checks what a client receives of an answer.
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

    /// Checks the header of the next source.
    ///
    /// - Returns: the index of the source.
    func source(header: ByteBuffer) -> Int {
        let index = frames.count
        frames.append(0)
        if hasEnded { broken("a source after the end") }
        if index >= answer.sources.count {
            broken("source \(index), but the answer has \(answer.sources.count) sources")
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
        if endedSources.contains(index) { broken("a frame after the end of source \(index)") }
        if frame >= workload.madeFrames(of: index, of: id) {
            broken("frame \(frame) of source \(index), which was not produced")
        } else if !answer.isRight(bytes, frame: frame, of: index, of: id) {
            broken("wrong bytes in frame \(frame) of source \(index)")
        }
        workload.world.mix(id &* 37 ^ UInt64(index) << 32 ^ UInt64(frame))
    }

    /// Checks the good end of a source.
    func sourceEnded(_ index: Int) {
        guard index < answer.sources.count else { return }
        let source = answer.sources[index]
        if !endedSources.insert(index).inserted { broken("source \(index) ended twice") }
        if frames[index] != source.frameSizes.count {
            broken("end of source \(index) after \(frames[index]) of \(source.frameSizes.count) frames")
        }
        if source.end != .well, !workload.isServedByGo(id) { broken("source \(index) ended well, but it must fail") }
    }

    /// Checks the good end of the request.
    func ended() {
        if hasEnded { broken("the request ended twice") }
        hasEnded = true
        if frames.count != answer.sources.count {
            broken("end of the request after \(frames.count) of \(answer.sources.count) sources")
        }
        if answer.end != .well, !workload.isServedByGo(id) { broken("the request ended well, but it must fail") }
    }

    /// Checks that the failure is the first end of the request.
    func failed() {
        if hasEnded { broken("the request failed after its end") }
        hasEnded = true
    }

    func sourceFailed(_ index: Int) {
        if !endedSources.insert(index).inserted { broken("source \(index) failed after its end") }
    }
}
