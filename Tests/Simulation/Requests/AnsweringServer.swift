import Chanserv
import NIOCore

/// A chanserv server on a node of this library, with random options.
///
/// `@unchecked Sendable`: see ``World``.
final class AnsweringServer: @unchecked Sendable {
    let server: Server
    private let workload: RequestWorkload
    /// The services that accept requests, by name.
    private var services: [String: VirtualService] = [:]
    private var allServices: [VirtualService] = []

    init(_ multiplexer: any Multiplexer, _ workload: RequestWorkload, _ random: inout SeededRandom) {
        self.workload = workload
        server = Server(
            multiplexer: multiplexer, configuration: Self.configuration(workload, &random))
    }

    private static func configuration(
        _ workload: RequestWorkload, _ random: inout SeededRandom
    ) -> Server.Configuration {
        func timeout(_ percent: Int, _ range: ClosedRange<Int>) -> Duration? {
            random.chance(percent) ? .milliseconds(random.pick(range)) : nil
        }
        var configuration = Server.Configuration()
        configuration.executor = workload.world.executor
        configuration.maxErrorMass = random.pick([0, 3, 10])
        configuration.errorPause = .seconds(1)
        configuration.chanAcceptTimeout = .milliseconds(random.pick(4_000...20_000))
        configuration.servingTimeout = timeout(20, 3_000...20_000)
        configuration.sourcingTimeout = timeout(20, 2_000...10_000)
        configuration.masterReadTimeout = timeout(30, 2_000...10_000)
        configuration.masterWriteTimeout = timeout(30, 2_000...10_000)
        configuration.frameWriteTimeout = timeout(30, 2_000...10_000)
        configuration.compression = random.chance(30)
        configuration.batchSize = random.pick([1_000, 65_536])
        configuration.maxListingRequests = random.pick([1, 4, 4_096])
        configuration.maxOpenRequests = random.chance(10) ? 3 : nil
        configuration.maxUnacceptedSources = random.pick([1, 4, 256])
        configuration.admission = workload.guardPlan.map { SimulatedAdmission(plan: $0) }
        if workload.losesClientsSilently { configuration.servingTimeout = configuration.servingTimeout ?? .seconds(30) }
        return configuration
    }

    func serve(_ name: String) {
        guard services[name] == nil else { return }
        let workload = workload
        do {
            let service = try server.serve(name) { request in try await Self.sources(request, workload) }
            services[name] = service
            allServices.append(service)
        } catch {
            workload.world.broken("cannot serve \(name): \(error)")
        }
    }

    /// Withdraws a name and drains its requests for 3 s.
    func stop(_ name: String) {
        guard let service = services.removeValue(forKey: name) else { return }
        service.stopAccepting()
        let world = workload.world
        world.task {
            _ = await service.drain(until: world.instant(at: world.now + 3 * World.second))
        }
    }

    /// Cancels one of the open requests, as an operator does.
    func cancel(_ pick: Int) {
        let open = server.open.requests()
        guard !open.isEmpty else { return }
        let id = open[pick % open.count].id
        if !server.open.cancel(id: id, reason: "cancelled by the operator") {
            workload.world.broken("open request \(id) cannot be cancelled")
        }
    }

    private static func sources(_ request: Request, _ workload: RequestWorkload) async throws -> Sources {
        guard let (id, answer) = workload.begin(request.body, isGoLike: false, from: request.context.identity)
        else { throw AnswerFailure() }
        return AnswerSources(id: id, answer: answer, workload: workload)
    }

    // MARK: - Checks

    /// Requests or sources that are still open or counted after every request has ended.
    func leftovers() -> String? {
        let count = server.open.count(.all)
        if count > 0 { return "\(count) requests are open: \(server.open.requests().map(\.status))" }
        for service in allServices {
            let counters = service.counters
            if counters.requestsOpen + counters.sourcesOpen + counters.sourcesWaiting > 0 {
                return "\(service.vAddr) still counts open requests or sources: \(counters)"
            }
        }
        return nil
    }

    /// A request that is still open more than 100 ms after its deadline.
    func overdue() -> String? {
        let now = workload.world.instant
        for scope in server.open.requests() {
            guard let deadline = scope.context.deadline, now > deadline + .milliseconds(100) else { continue }
            // Cancelled code may take time in general, but the code of the simulation ends at once.
            return "request \(scope.status) is open \(now - deadline) after its deadline"
        }
        return nil
    }
}

/// Admits the callers that the access rules name.
private struct SimulatedAdmission: RequestAdmission {
    let plan: GuardPlan

    func isAllowed(_ caller: Caller) -> Bool {
        plan.allows(SimulatedCaller(identity: caller.identity, isNamed: !caller.names.isEmpty))
    }

    func admit(_ caller: Caller, from address: String, now: ContinuousClock.Instant) -> Admission {
        .admitted(place: nil)
    }
}

/// The failure of a source function or a source, as the answer plans it.
struct AnswerFailure: Error, CustomStringConvertible {
    var description: String { "this answer fails" }
}

/// The sources of an answer.
private struct AnswerSources: AsyncSequence, Sendable {
    let id: UInt64
    let answer: Answer
    let workload: RequestWorkload

    func makeAsyncIterator() -> Iterator { Iterator(id, answer, workload) }

    struct Iterator: AsyncIteratorProtocol {
        private let listing: Listing
        private var random: SeededRandom
        private var next = 0

        init(_ id: UInt64, _ answer: Answer, _ workload: RequestWorkload) {
            listing = Listing(id: id, answer: answer, workload: workload)
            random = SeededRandom(id, 14)
        }

        mutating func next() async throws -> Source? { try await next(isolation: nil) }

        mutating func next(isolation actor: isolated (any Actor)?) async throws(any Error) -> Source? {
            let (id, answer, workload) = (listing.id, listing.answer, listing.workload)
            if random.chance(20), !(id >= SimulatedRequest.firstCalm) {
                try await workload.world.pause(random.next() % (300 * World.millisecond))
            }
            guard next < answer.sources.count else {
                switch answer.end {
                case .well: return nil
                case .fails: throw AnswerFailure()
                case .hangs: return try await workload.world.hang()
                }
            }
            let index = next
            next += 1
            return Source(
                header: answer.header(index, of: id),
                producer: AnswerProducer(id: id, index: index, answer: answer, workload: workload))
        }
    }

    /// Reports the end of the listing when the iterator is released.
    private final class Listing: Sendable {
        let id: UInt64
        let answer: Answer
        let workload: RequestWorkload

        init(id: UInt64, answer: Answer, workload: RequestWorkload) {
            self.id = id
            self.answer = answer
            self.workload = workload
        }

        deinit { workload.listed(id) }
    }
}

/// The frames of a source of an answer.
///
/// `@unchecked Sendable`: see ``World``.
private final class AnswerProducer: FrameProducer, @unchecked Sendable {
    private let id: UInt64
    private let index: Int
    private let answer: Answer
    private let workload: RequestWorkload
    private var random: SeededRandom
    private var next = 0
    private var isProducing = false
    private var isClosed = false

    init(id: UInt64, index: Int, answer: Answer, workload: RequestWorkload) {
        self.id = id
        self.index = index
        self.answer = answer
        self.workload = workload
        random = SeededRandom(id, 15, UInt64(index))
        workload.producerBegins()
    }

    deinit {
        if !isClosed { workload.world.broken("the producer of source \(index) of request \(id) was not closed") }
    }

    func produce(into batch: inout FrameBatch) async throws -> Bool {
        if isProducing || isClosed { workload.world.broken("produce was called concurrently or after close") }
        isProducing = true
        defer { isProducing = false }
        let frames = answer.sources[index].frameSizes.count
        if next < frames, random.chance(15), id < SimulatedRequest.firstCalm {
            try await workload.world.pause(random.next() % (200 * World.millisecond))
        }
        // Some calls produce nothing.
        if random.chance(5) { return true }
        let most = random.chance(50) ? 1 : Int.max
        let before = next
        while next < frames, !batch.isFull, next - before < most {
            try batch.append(answer.frame(next, of: index, of: id))
            next += 1
        }
        workload.made(next - before, of: index, of: id)
        if next < frames || next > before && random.chance(50) { return true }
        switch answer.sources[index].end {
        case .well: return false
        case .fails: throw AnswerFailure()
        case .hangs:
            // The produced frames must be sent first.
            if next > before { return true }
            return try await workload.world.hang()
        }
    }

    func close() {
        if isProducing { workload.world.broken("a producer was closed during produce") }
        isClosed = true
        workload.producerEnds()
    }
}

extension World {
    private struct Elapsed: Error {}

    /// Waits for the given time, or until the task is cancelled.
    func pause(_ nanoseconds: UInt64) async throws {
        do {
            try await Signal(self).wait(deadline: now + nanoseconds)
        } catch is Signal.DeadlinePassed {}
    }

    /// Waits for the cancellation of the task.
    func hang<Value>() async throws -> Value {
        while true { try await pause(20 * Self.second) }
    }
}
