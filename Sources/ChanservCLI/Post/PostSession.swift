import AstraNet
import Chanserv
import ChanservAstraNet
import ChanservHost
import Glibc
import HostConfiguration
import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

/// One run of `chanserv post`: joins the mesh, posts the request, and reads each source in its own task.
final class PostSession: Sendable {
    private struct State {
        /// The first reason to end the session early.
        var verdict: CommandOutcome?
        var work: Task<Void, Never>?
        /// The attempt that is running; `nil` before the request is accepted.
        var sources: ReceivedSources?
        /// Whether the attempt that is running was given up because no byte arrived.
        var isGivenUp = false
    }

    /// Maximum number of sources that are read concurrently. A further source waits until one of them ends.
    private static let openSourcesMax = 16_384

    private let request: PostRequest
    private let output = CommandOutput()
    private let progress: NIOLockedValueBox<PostProgress>
    private let state = NIOLockedValueBox(State())
    private let repeats: RepeatBudget

    init(_ request: PostRequest) {
        self.request = request
        progress = NIOLockedValueBox(PostProgress(waitsFor: request.vAddr))
        repeats = RepeatBudget(request.retries)
    }

    func run() async -> CommandOutcome {
        let signals = await SignalHandling(
            onReload: { self.end(.interrupted) },  // SIGHUP: the terminal closed.
            onStop: { self.end(.interrupted) },
            onImmediateEnd: { _exit(CommandOutcome.interrupted.exitCode) })
        defer { signals.cancel() }

        let started = ContinuousClock.now
        let work = Task { await self.work() }
        let isOver = state.withLockedValue { state in
            state.work = work
            return state.verdict != nil
        }
        if isOver { work.cancel() }
        let drawing = Task { await self.drawProgress(since: started) }
        let limit = Task { await self.limitTime(since: started) }
        await work.value
        for task in [drawing, limit] {
            task.cancel()
            await task.value
        }

        let verdict = state.withLockedValue { $0.verdict }
        let progress = progress.withLockedValue { progress in
            progress.isComplete = verdict == nil
            return progress
        }
        if progress.announced > 0 || verdict == nil {
            let elapsed = (ContinuousClock.now - started) / .seconds(1)
            await output.draw(progress, rate: elapsed > 0 ? Double(progress.bytes) / elapsed : 0)
            await output.finish()
        } else {
            await output.clear()
        }
        let outcome = verdict ?? (progress.failed == 0 ? .complete : .failed)
        if outcome == .interrupted { await output.report("interrupted") }
        return outcome
    }

    /// Ends the session. Only the first reason is kept.
    private func end(_ verdict: CommandOutcome) {
        let work = state.withLockedValue { state in
            if state.verdict == nil { state.verdict = verdict }
            return state.work
        }
        work?.cancel()
    }

    private func work() async {
        do {
            let body: ByteBuffer
            do {
                body = try await NIOThreadPool.singleton.runIfActive { [body = request.body] in try body.read() }
            } catch let error where !(error is CancellationError) {
                return await fail("\(error)", .noInput)
            }
            let folder = try request.saveFolder.map { try SaveFolder(path: $0) }
            var configuration = NodeConfiguration(environment: request.environment)
            configuration.role = .client
            let node = Node(
                configuration: configuration,
                logger: Logger(label: "chanserv.post") { LineLogHandler(label: $0, level: .error, format: .text) })
            if await join(node) {
                let watch = Task { await self.limitSilence(of: node) }
                while await post(body, from: node, savingTo: folder) {}
                watch.cancel()
                await watch.value
            }
            // The result is complete. A peer that does not read the last bytes delays the exit by 500 ms at most.
            await Task { await node.shutdown(grace: .milliseconds(500)) }.value
        } catch is CancellationError {
            // The session is ending and has its reason already.
        } catch {
            await fail("\(error)", .failed)
        }
    }

    /// Joins all nodes concurrently and reports those that failed.
    ///
    /// - Returns: whether at least one node was joined.
    private func join(_ node: Node) async -> Bool {
        let deadline = ContinuousClock.now + request.timeout
        let failures = await node.joinAll(request.joins, deadline: deadline)
        guard !Task.isCancelled else { return false }
        for failure in failures { await output.report(failure) }
        guard failures.count == Set(request.joins.addresses).count else { return true }
        await show(.requestFailed(failures.joined(separator: "; ")))
        await fail(nil, .unavailable)
        return false
    }

    /// Posts the request and reads its sources.
    ///
    /// - Returns: whether the request failed and must be sent again.
    private func post(_ body: ByteBuffer, from node: Node, savingTo folder: SaveFolder?) async -> Bool {
        var configuration = Client.Configuration()
        configuration.dialTimeout = request.timeout
        configuration.repeats = repeats
        let client = Client(multiplexer: AstraNetMultiplexer(node), configuration: configuration)
        let sources: ReceivedSources
        do {
            var tags: RequestTags = [:]
            tags[.bucket] = request.bucket
            tags[.meta] = request.meta
            sources = try await client.lookupAndPost(
                request.vAddr, body: body, tags: tags, deadline: request.deadline.map { .now + $0 })
            progress.withLockedValue { $0.waitsFor = nil }
            state.withLockedValue { $0.sources = sources }
        } catch {
            if await repeats(after: error, node) { return true }
            await requestFailed(error, missing: missingOffer(error, node))
            return false
        }
        return await withTaskGroup(of: Void.self) { group in
            do {
                var next = 0
                for try await source in sources {
                    if next >= Self.openSourcesMax { await group.next() }
                    let number = next
                    next += 1
                    progress.withLockedValue { $0.announced += 1 }
                    await show(.header(source: number, source.header))
                    group.addTask { await self.read(source, number: number, savingTo: folder) }
                }
            } catch {
                if await repeats(after: error, node) { return true }
                await requestFailed(error)
            }
            return false
        }
    }

    /// Prepares to send the request again if that is allowed and may help: no source has arrived, and the host was
    /// busy, lost or silent.
    private func repeats(after error: any Error, _ node: Node) async -> Bool {
        let isGivenUp = state.withLockedValue { state in
            state.sources = nil
            defer { state.isGivenUp = false }
            return state.isGivenUp
        }
        guard progress.withLockedValue({ $0.announced }) == 0, !Task.isCancelled else { return false }
        if isGivenUp { return true }
        guard let error = error as? ChanservError else { return false }
        guard error.code == .connectionLost || isRefusal(error), repeats.take() else { return false }
        do {
            try await Task.sleep(for: Self.retryPause)
        } catch {
            return false
        }
        return if node.linkCount > 0 { true } else { await join(node) }
    }

    private static let retryPause = Duration.milliseconds(200)

    /// Returns whether the host refused the request because it is busy. Behind a router it may do so only after it has
    /// accepted the connection.
    private func isRefusal(_ error: ChanservError) -> Bool {
        error.code == .refused || error.code == .sourceFailed && error.message.hasPrefix("busy: ")
    }

    // MARK: - Time limits

    /// Ends the session at the limit of `--max-time`.
    private func limitTime(since start: ContinuousClock.Instant) async {
        guard let limit = request.maximumTime else { return }
        do {
            try await Task.sleep(until: start + limit)
        } catch {
            return
        }
        await expire("not complete after \(ValueGrammar.text(limit)) (--max-time)")
    }

    /// Gives the request up when no byte has arrived for `--idle-timeout`. A slow reader of standard output does not
    /// count.
    private func limitSilence(of node: Node) async {
        guard let limit = request.idleTimeout else { return }
        let start = node.streamActivity
        var last = start
        var since = ContinuousClock.now
        while !Task.isCancelled {
            do {
                try await Task.sleep(for: min(max(limit / 10, .milliseconds(1)), .milliseconds(250)))
            } catch {
                return
            }
            let activity = node.streamActivity
            let hasBegun = activity != start || state.withLockedValue { $0.sources != nil }
            if activity != last || output.isWriting || !hasBegun {
                last = activity
                since = .now
            } else if ContinuousClock.now - since >= limit {
                guard giveUp() else {
                    return await expire("no byte arrived for \(ValueGrammar.text(limit)) (--idle-timeout)")
                }
                since = .now
            }
        }
    }

    /// Gives a silent attempt up so that the request is sent again. Returns whether that is allowed.
    private func giveUp() -> Bool {
        guard progress.withLockedValue({ $0.announced }) == 0, let sources = state.withLockedValue({ $0.sources }),
            repeats.take()
        else { return false }
        state.withLockedValue { $0.isGivenUp = true }
        sources.cancel()
        return true
    }

    /// Ends the session because a time limit has passed. Ends the process if standard output takes no bytes.
    private func expire(_ message: String) async {
        let outcome: CommandOutcome = progress.withLockedValue { $0.announced } == 0 ? .unavailable : .failed
        let message = "\(request.vAddr): \(message)"
        let isShown = NIOLockedValueBox(false)
        endProcess(with: outcome) {
            // Both outputs may be the same pipe.
            var errors = pollfd(fd: STDERR_FILENO, events: Int16(POLLOUT), revents: 0)
            if !isShown.withLockedValue({ $0 }), poll(&errors, 1, 0) > 0 { StandardError.report(message) }
        }
        await show(.requestFailed(message))
        await fail(message, outcome)
        isShown.withLockedValue { $0 = true }
        end(outcome)
    }

    /// Ends the process soon if the session does not: a read of the body, a join and a write cannot be cancelled.
    private func endProcess(with outcome: CommandOutcome, _ last: @escaping @Sendable () -> Void = {}) {
        Task.detached {
            try await Task.sleep(for: Self.outputGrace)
            last()
            _exit(outcome.exitCode)
        }
    }

    private static let outputGrace = Duration.seconds(1)

    // MARK: - Failures

    /// Returns the message if the request failed because no node offers its address.
    private func missingOffer(_ error: any Error, _ node: Node) -> String? {
        guard let code = (error as? ChanservError)?.code, [.notFound, .deadlineExceeded].contains(code) else {
            return nil
        }
        let missing = MissingOffer(
            vAddr: request.vAddr, environment: request.environment,
            names: node.listing.services.map(\.offer.name))
        return missing?.message(waited: min(request.timeout, request.deadline ?? request.timeout))
    }

    /// - Parameter missing: the message if no node offers the address; it contains the address.
    private func requestFailed(_ error: any Error, missing: String? = nil) async {
        guard !Task.isCancelled else { return }
        let isUnavailable =
            (error as? ChanservError).map { Self.unavailable.contains($0.code) || isRefusal($0) } ?? false
        let before = progress.withLockedValue { $0.announced }
        let message = missing ?? Self.message(error)
        await show(.requestFailed(message))
        await fail(
            missing ?? "\(request.vAddr): \(message)", isUnavailable && before == 0 ? .unavailable : .failed)
    }

    /// Returns the text of an error. For a failure or refusal that the server reported, it is the text that it sent.
    private static func message(_ error: any Error) -> String {
        switch error {
        case let error as ChanservError where error.code == .sourceFailed && !error.message.isEmpty:
            return error.message
        case let error as ChanservError where error.code == .refused:
            // The same text as that of a refusal that follows the answer to the dial.
            if let refusal = error.cause as? ConnectionError, !refusal.message.isEmpty { return refusal.message }
        default: break
        }
        return "\(error)"
    }

    private static let unavailable: Set<ChanservError.Code> = [
        .notFound, .refused, .connectionLost, .deadlineExceeded,
    ]

    /// Records a failure for the exit code and reports it. Sources that are being read continue.
    private func fail(_ message: String?, _ verdict: CommandOutcome) async {
        state.withLockedValue { if $0.verdict == nil { $0.verdict = verdict } }
        if let message { await output.report(message) }
    }

    private func read(_ source: ReceivedSource, number: Int, savingTo folder: SaveFolder?) async {
        var failure: String?
        var saved: SavedSource?
        do {
            if let folder {
                saved = try await save(source, number: number, in: folder)
            } else {
                try await print(source, number: number)
            }
        } catch {
            failure = Self.message(error)
        }
        // The session was cancelled; the source did not fail by itself, so it is not reported.
        guard !Task.isCancelled else { return }
        progress.withLockedValue { progress in
            progress.done += 1
            if failure != nil { progress.failed += 1 }
        }
        await show(.end(source: number, failure: failure, saved: saved))
        if let failure { await output.report("source \(number): \(failure)") }
    }

    private func print(_ source: ReceivedSource, number: Int) async throws {
        try await forEachBatch(of: source) { batch in
            var text = ByteBuffer()
            for frame in batch { self.request.format.render(.frame(source: number, frame.bytes), into: &text) }
            await self.write(text)
        }
    }

    private func save(_ source: ReceivedSource, number: Int, in folder: SaveFolder) async throws -> SavedSource {
        let files = NIOThreadPool.singleton
        let header = source.header
        let path = try await files.runIfActive { try folder.create(header: header, source: number) }
        let bytes = try await forEachBatch(of: source) { batch in
            var joined = ByteBuffer()
            for frame in batch { joined.writeImmutableBuffer(frame.bytes) }
            try await files.runIfActive { [joined] in try folder.append(joined, to: path) }
        }
        try await files.runIfActive { try folder.complete(path) }
        return SavedSource(path: path.description, bytes: bytes)
    }

    /// Counts the frames of a source and calls `body` with each batch as it arrives.
    ///
    /// - Returns: the total number of bytes.
    @discardableResult
    private func forEachBatch(
        of source: ReceivedSource, _ body: ([ReceivedFrame]) async throws -> Void
    ) async throws -> Int {
        var frames = source.frames.makeAsyncIterator()
        var total = 0
        while true {
            let batch = try await frames.nextBatch()
            if batch.isEmpty { return total }
            let bytes = batch.reduce(0) { $0 + $1.count }
            total += bytes
            progress.withLockedValue { progress in
                progress.frames += batch.count
                progress.bytes += bytes
            }
            try await body(batch)
            try Task.checkCancellation()
        }
    }

    private func show(_ event: PostEvent) async {
        var text = ByteBuffer()
        request.format.render(event, into: &text)
        if text.readableBytes > 0 { await write(text) }
    }

    /// Writes to standard output. A failure ends the session.
    private func write(_ text: ByteBuffer) async {
        do {
            try await output.write(text)
        } catch let error as SystemError where error.code == EPIPE {
            end(.outputClosed)
        } catch is CancellationError {
            // The session is ending and has its reason already.
        } catch {
            await output.report("\(error)")
            end(.failed)
        }
    }

    private func drawProgress(since start: ContinuousClock.Instant) async {
        guard output.showsProgress else { return }
        var meter = RateMeter()
        while !Task.isCancelled {
            let progress = progress.withLockedValue { $0 }
            await output.draw(progress, rate: meter.rate(at: ContinuousClock.now - start, bytes: progress.bytes))
            do {
                try await Task.sleep(for: .milliseconds(200))
            } catch {
                return
            }
        }
    }
}
