import Chanserv
import NIOCore

/// The client of one request on a node of this library.
///
/// `@unchecked Sendable`: see ``World``.
final class PostingClient: @unchecked Sendable {
    private let request: SimulatedRequest
    private let workload: RequestWorkload
    private let client: Client
    private let received: ReceivedAnswer
    private let timeouts: Timeouts
    private var random: SeededRandom
    private var readers: [Task<Void, Never>] = []
    private var openReaders = 0
    private let readerEnded: Signal
    /// The client ended the request early, so any error is allowed.
    private var isGivenUp = false
    private var readerFailure: (any Error)?
    private let deadline: UInt64?

    /// Nanoseconds.
    private struct Timeouts {
        var dial = 10 * World.second
        var write = 10 * World.second
        var news: UInt64
        var frame: UInt64
    }

    private var world: World { workload.world }

    init(_ request: SimulatedRequest, _ workload: RequestWorkload, _ multiplexer: any Multiplexer) {
        self.request = request
        self.workload = workload
        random = SeededRandom(request.seed, 16)
        timeouts =
            request.isCalm
            ? Timeouts(news: 25 * World.second, frame: 25 * World.second)
            : Timeouts(
                news: UInt64(random.pick(3_000...15_000)) * World.millisecond,
                frame: UInt64(random.pick(3_000...15_000)) * World.millisecond)
        var configuration = Client.Configuration()
        configuration.dialTimeout = .nanoseconds(Int64(timeouts.dial))
        configuration.masterReadTimeout = .nanoseconds(Int64(timeouts.news))
        configuration.masterWriteTimeout = .nanoseconds(Int64(timeouts.write))
        configuration.frameReadTimeout = .nanoseconds(Int64(timeouts.frame))
        configuration.acceptsPushedSources = request.acceptsPushedSources
        configuration.sourceBuffer = request.sourceBuffer
        configuration.frameBuffer = random.pick([1, 1_024])
        client = Client(multiplexer: multiplexer, configuration: configuration)
        received = ReceivedAnswer(request, workload)
        readerEnded = Signal(workload.world)
        deadline = request.deadline.map { workload.world.now + $0 }
    }

    func run() async -> RequestWorkload.Outcome {
        let outcome: RequestWorkload.Outcome
        do {
            outcome = try await post()
        } catch {
            received.failed()
            workload.judge(error, of: request.id, "sources")
            outcome = .failed(error)
        }
        await join()
        if isGivenUp || Task.isCancelled { return .endedEarly }
        if case .whole = outcome, let readerFailure { return .failed(readerFailure) }
        return outcome
    }

    // MARK: - Sources

    private func post() async throws -> RequestWorkload.Outcome {
        let request = request
        let client = client
        let deadline = deadline.map { world.instant(at: $0) }
        let sources = try await onTime(timeouts.dial + timeouts.write, "the post") {
            try await client.lookupAndPost(
                request.name, body: RequestBody.bytes(of: request), tags: [.meta: "\(request.id)"], deadline: deadline)
        }
        if request.behaviour == .cancelsRequest {
            world.after(random.next() % World.second) {
                self.isGivenUp = true
                sources.cancel()
            }
        }
        let most = request.behaviour == .stopsEarly ? random.pick(0...3) : Int.max
        return try await take(sources, most)
    }

    private func take(_ sources: ReceivedSources, _ most: Int) async throws -> RequestWorkload.Outcome {
        var iterator = sources.makeAsyncIterator()
        var count = 0
        while count < most {
            let next: ReceivedSource?
            let limit = 2 * timeouts.news
            let began = world.now
            do {
                next = try await iterator.next()
            } catch {
                checkTime(began, limit, "the next source")
                if !Task.isCancelled, !isGivenUp { await checkEnd(&iterator, "failure") }
                throw error
            }
            checkTime(began, limit, "the next source")
            guard let next else {
                received.ended()
                await checkEnd(&iterator, "end")
                return .whole
            }
            count += 1
            let index = received.source(header: next.header)
            if request.behaviour == .dropsSources, random.chance(30) {
                if random.chance(50) { next.cancel() }
                isGivenUp = true
                continue
            }
            read(next, index)
            if request.behaviour == .slow {
                await pauseRandomly()
                // Hundreds of sources may be available, and a cancelled task gets them too.
                if Task.isCancelled { break }
            }
            // All other clients read one source after the other.
            if request.behaviour != .atOnce, request.behaviour != .cancelsRequest { await join() }
        }
        isGivenUp = true
        return .endedEarly
    }

    /// Checks that nothing follows a failure or the end.
    private func checkEnd(_ iterator: inout ReceivedSources.Iterator, _ ending: String) async {
        do {
            if let more = try await iterator.next() {
                world.broken("request \(request.id): a source with header \(more.header) after its \(ending)")
            }
        } catch {
            world.broken("request \(request.id): \(error) after its \(ending)")
        }
    }

    private func pauseRandomly() async {
        await world.sleep(random.next() % (random.chance(10) ? 8 * World.second : 300 * World.millisecond))
    }

    /// Reads a source in a new task.
    private func read(_ source: ReceivedSource, _ index: Int) {
        openReaders += 1
        let seed = random.next()
        readers.append(
            world.task {
                await self.readFrames(source.frames, index, SeededRandom(seed))
                self.openReaders -= 1
                self.readerEnded.fire()
            })
    }

    /// Waits until all sources are read. Cancellation of this task cancels the readers.
    private func join() async {
        while openReaders > 0 {
            do {
                try await readerEnded.wait(deadline: world.now + 60 * World.second)
            } catch is CancellationError {
                for reader in readers { reader.cancel() }
                while openReaders > 0 { await world.sleep(World.millisecond) }
            } catch {
                world.broken("request \(request.id): a source hangs")
                return
            }
        }
        readers = []
    }

    // MARK: - Frames

    private func readFrames(_ frames: ReceivedFrames, _ index: Int, _ random: SeededRandom) async {
        var random = random
        var iterator = frames.makeAsyncIterator()
        let most = request.behaviour == .dropsSources && random.chance(30) ? random.pick(0...3) : Int.max
        let usesBatches = random.chance(30)
        var count = 0
        do {
            while count < most {
                let frames = try await nextFrames(&iterator, usesBatches)
                for frame in frames { received.frame(frame.bytes, of: index) }
                if frames.isEmpty { break }
                count += 1
                if request.behaviour == .slow, random.chance(30) {
                    await world.sleep(random.next() % (100 * World.millisecond))
                }
            }
            if count >= most {
                isGivenUp = true
                return
            }
            received.sourceEnded(index)
            if try await iterator.next() != nil {
                world.broken("request \(request.id): a frame after the end of source \(index)")
            }
        } catch {
            received.sourceFailed(index)
            workload.judge(error, of: request.id, "source \(index)")
            if readerFailure == nil { readerFailure = error }
            if error.cause is CancellationError { return }
            do {
                if try await iterator.next() != nil {
                    world.broken("request \(request.id): a frame after the failure of source \(index)")
                }
            } catch {
                world.broken("request \(request.id): source \(index) failed twice: \(error)")
            }
        }
    }

    /// The next frame, or all available frames; an empty array at the end.
    private func nextFrames(
        _ iterator: inout ReceivedFrames.Iterator, _ usesBatches: Bool
    ) async throws(ChanservError) -> [ReceivedFrame] {
        let began = world.now
        defer { checkTime(began, timeouts.dial + timeouts.frame, "a frame") }
        return usesBatches ? try await iterator.nextBatch() : try await iterator.next().map { [$0] } ?? []
    }

    // MARK: - Time

    private func checkTime(_ began: UInt64, _ limit: UInt64, _ operation: String) {
        var end = began + limit
        // The deadline of the request applies to its client too.
        if let deadline { end = min(end, max(deadline, began)) }
        if world.now > end + World.millisecond {
            world.broken(
                "request \(request.id): \(operation) took \((world.now - end) / World.millisecond) ms too long")
        }
    }

    private func onTime<Value: Sendable>(
        _ limit: UInt64, _ operation: String, _ body: @Sendable () async throws -> Value
    ) async throws -> Value {
        let began = world.now
        defer { checkTime(began, limit, operation) }
        return try await body()
    }
}
