import AstraNet
import NIOCore

/// The clients and servers of streams on the nodes of the mesh. Each knows the bytes that it must receive.
///
/// `@unchecked Sendable`: see ``World``.
final class Workload: @unchecked Sendable {
    private let world: World
    /// Posts that have begun and not ended.
    private(set) var open: Set<UInt64> = []
    private(set) var completed = 0
    private(set) var failed = 0
    /// The identities and rules of a guarded seed.
    var guardPlan: GuardPlan?
    /// The host of the client of each post, by id.
    private var clients: [UInt64: Int] = [:]

    /// How a post ended.
    enum Outcome {
        case whole
        /// Ended early by its client.
        case endedEarly
        case failed(any Error)
    }

    init(world: World) {
        self.world = world
    }

    // MARK: - Clients

    @discardableResult
    func post(
        _ post: Post, through node: any SimulatedNode, ended: @escaping @Sendable (Outcome) -> Void = { _ in }
    ) -> Task<Void, Never> {
        open.insert(post.id)
        if guardPlan != nil { clients[post.id] = post.host }
        let task = world.task {
            let outcome = await self.run(post, node)
            self.open.remove(post.id)
            switch outcome {
            case .whole, .endedEarly: self.completed += 1
            case .failed(let error):
                self.failed += 1
                self.world.note("post \(post.id) failed: \(error)")
                self.judge(error, "post \(post.id)")
            }
            ended(outcome)
        }
        if post.behaviour == .cancels {
            var random = SeededRandom(post.seed, 7)
            world.after(random.next() % World.second) { task.cancel() }
        }
        return task
    }

    private func run(_ post: Post, _ node: any SimulatedNode) async -> Outcome {
        var random = SeededRandom(post.seed, 6)
        let deadline = world.now + 10 * World.second
        do {
            let withDial = min(post.requestSize, random.chance(50) ? random.pick(0...80_000) : 0)
            let first = Content.opening(of: post, withDial)
            let stream = try await onTime(deadline, "dial of \(post.service)") {
                try await node.dial(post.service, first: first, deadline: deadline)
            }
            defer { stream.close() }
            var sent = withDial
            while sent < post.requestSize {
                let count = min(post.requestSize - sent, random.pick(1...70_000))
                let deadline = world.now + 10 * World.second
                let bytes = Content.bytes(post.id, from: sent, count: count)
                try await onTime(deadline, "send") { try await stream.send(bytes, deadline: deadline) }
                sent += count
            }
            return try await read(post, stream, &random)
        } catch is CancellationError where post.behaviour == .cancels {
            return .endedEarly
        } catch {
            return .failed(error)
        }
    }

    private func read(_ post: Post, _ stream: any SimulatedStream, _ random: inout SeededRandom) async throws -> Outcome
    {
        var received = 0
        let enough = post.behaviour == .vanishes ? post.answerSize / 2 : .max
        while true {
            let deadline = world.now + 15 * World.second
            let bytes = try await onTime(deadline, "receive") { try await stream.receive(deadline: deadline) }
            guard let bytes else {
                if received != post.answerSize {
                    world.broken("post \(post.id): end of file after \(received) of \(post.answerSize) bytes")
                }
                return .whole
            }
            if !Content.isRight(bytes, post.id, at: received) {
                world.broken("post \(post.id): wrong bytes after \(received)")
            }
            received += bytes.readableBytes
            if received > post.answerSize { world.broken("post \(post.id): \(received) of \(post.answerSize) bytes") }
            if received > enough { return .endedEarly }
            if post.behaviour == .slow { await world.sleep(random.next() % (400 * World.millisecond)) }
        }
    }

    /// Checks that `body` returns by its deadline.
    private func onTime<Value: Sendable>(
        _ deadline: UInt64, _ operation: String, _ body: @Sendable () async throws -> Value
    ) async throws -> Value {
        defer {
            if world.now > deadline + World.millisecond {
                world.broken(
                    "'\(operation)' returned \((world.now - deadline) / World.millisecond) ms after its deadline")
            }
        }
        return try await body()
    }

    /// Records a protocol violation or an exceeded limit as broken: correct nodes never report one.
    ///
    /// The same holds for an error that only the adversary can have caused.
    private func judge(_ error: any Error, _ context: String) {
        if GuardPlan.isOfAdversary(error) { world.broken("\(context): \(error)") }
        guard let error = error as? AstraNetError else { return }
        if error.code == .protocolViolation || error.code == .limitReached {
            world.broken("\(context): \(error)")
        }
    }

    // MARK: - Servers

    func serve(_ stream: any SimulatedStream) {
        let caller = guardPlan == nil ? nil : stream.caller
        if let caller, guardPlan?.allows(caller) == false { return stream.fail("not allowed") }
        world.task {
            do {
                try await self.answer(stream, caller)
            } catch {
                self.judge(error, "server")
            }
            stream.close()
        }
    }

    private func answer(_ stream: any SimulatedStream, _ caller: SimulatedCaller?) async throws {
        var request = ByteBuffer()
        while request.readableBytes < Content.headerSize {
            guard let more = try await receive(stream) else { return }
            request.writeImmutableBuffer(more)
        }
        guard
            let (id, requestSize, answerSize) = request.readMultipleIntegers(as: (UInt64, UInt32, UInt32).self)
        else { return }
        if let caller, let problem = guardPlan?.problem(with: caller, of: clients[id]) {
            return world.broken("post \(id): \(problem)")
        }
        var random = SeededRandom(id, 8)
        var read = 0
        while true {
            if !Content.isRight(request, id, at: read) { world.broken("request \(id): wrong bytes after \(read)") }
            read += request.readableBytes
            if read > requestSize { world.broken("request \(id): \(read) bytes of \(requestSize)") }
            if read >= requestSize { break }
            guard let more = try await receive(stream) else { return }
            request = more
        }
        var sent = 0
        while sent < answerSize {
            let count = min(Int(answerSize) - sent, random.pick(1...random.pick([200, 10_000, 200_000])))
            let deadline = world.now + 20 * World.second
            let bytes = Content.bytes(id, from: sent, count: count)
            try await onTime(deadline, "answer") { try await stream.send(bytes, deadline: deadline) }
            sent += count
            if random.chance(5) { await world.sleep(random.next() % (50 * World.millisecond)) }
        }
    }

    private func receive(_ stream: any SimulatedStream) async throws -> ByteBuffer? {
        let deadline = world.now + 20 * World.second
        return try await onTime(deadline, "request") { try await stream.receive(deadline: deadline) }
    }
}
