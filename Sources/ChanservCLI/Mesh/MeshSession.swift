import AstraNet
import ChanservHost
import Glibc
import Logging
import NIOConcurrencyHelpers
import NIOCore

/// One run of `chanserv mesh`: shows the mesh once, or after each change until a stop signal.
final class MeshSession: Sendable {
    /// Minimum time between two updates, because changes come in bursts.
    private static let interval = Duration.milliseconds(50)

    private struct State {
        /// The first reason to end the session early.
        var verdict: CommandOutcome?
        var work: Task<Void, Never>?
    }

    private let request: MeshRequest
    private let output = CommandOutput()
    private let state = NIOLockedValueBox(State())

    init(_ request: MeshRequest) {
        self.request = request
    }

    func run() async -> CommandOutcome {
        // Ctrl-C is the normal end of a watch.
        let interruption = request.watches ? CommandOutcome.complete : .interrupted
        let signals = await SignalHandling(
            onReload: { self.end(interruption) },  // SIGHUP: the terminal closed.
            onStop: { self.end(interruption) },
            onImmediateEnd: { _exit(interruption.exitCode) })
        defer { signals.cancel() }
        let work = Task { await self.work() }
        let isOver = state.withLockedValue { state in
            state.work = work
            return state.verdict != nil
        }
        if isOver { work.cancel() }
        await work.value
        return state.withLockedValue { $0.verdict } ?? .complete
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
        var configuration = NodeConfiguration(environment: request.environment ?? "")
        configuration.role = .client
        // An idle link measures its round-trip time with PINGs.
        configuration.pingInterval = .milliseconds(500)
        let node = Node(
            configuration: configuration,
            logger: Logger(label: "chanserv.mesh") { LineLogHandler(label: $0, level: .error, format: .text) })
        let started = ContinuousClock.now
        if await join(node, deadline: started + request.timeout) {
            await look(at: node, since: started)
        }
        await Task { await node.shutdown(grace: .milliseconds(500)) }.value
    }

    /// Joins all nodes and reports those that failed.
    ///
    /// - Returns: whether at least one node was joined.
    private func join(_ node: Node, deadline: ContinuousClock.Instant) async -> Bool {
        let failures = await node.joinAll(request.joins, deadline: deadline)
        guard !Task.isCancelled else { return false }
        for failure in failures { await output.report(failure) }
        if failures.count == Set(request.joins.addresses).count { end(.unavailable) }
        return failures.count < Set(request.joins.addresses).count
    }

    private func look(at node: Node, since started: ContinuousClock.Instant) async {
        guard request.watches else { return await lookOnce(at: node, since: started) }
        await withTaskGroup(of: Void.self) { group in
            for address in request.joins.addresses {
                let security = request.joins.security.join(address)
                group.addTask { await node.keepJoined(NodeAddress(address), security: security) }
            }
            await watch(node, since: started)
            group.cancelAll()
        }
    }

    private func lookOnce(at node: Node, since started: ContinuousClock.Instant) async {
        var changes = node.listingChanges.makeAsyncIterator()
        guard let picture = await settled(node, &changes, since: started) else { return }
        await write(request.format.render(picture))
    }

    /// Returns the picture after it has settled; `nil` if the session ended before.
    private func settled(
        _ node: Node, _ changes: inout ListingChanges.Iterator, since started: ContinuousClock.Instant
    ) async -> MeshSnapshot? {
        var settling = MeshSettling(deadline: request.timeout)
        while true {
            let picture = MeshSnapshot(node.listing, environment: request.environment)
            let now = ContinuousClock.now - started
            guard let next = settling.nextLook(after: picture, at: now) else { return picture }
            guard await change(&changes, before: started + next) else { return nil }
        }
    }

    private func watch(_ node: Node, since started: ContinuousClock.Instant) async {
        let redraws = isatty(STDOUT_FILENO) == 1 && request.format == .text
        var shown: MeshSnapshot?
        var text = ""
        var changes = node.listingChanges.makeAsyncIterator()
        var next = await settled(node, &changes, since: started)
        while let picture = next {
            // A terminal is also redrawn for new round-trip times. Elsewhere that would append a table every second.
            let hasChanged = redraws ? request.format.render(picture) != text : picture.withoutRoundTrips != shown
            if hasChanged {
                text = request.format.render(picture)
                let isFirst = shown == nil
                shown = picture.withoutRoundTrips
                // On a terminal: cursor home, clear screen, then the table.
                let page =
                    redraws
                    ? Terminal.page(text, width: Terminal.width(of: STDOUT_FILENO))
                    : isFirst || request.format == .json ? text : "\n" + text
                await write(page)
            }
            next = await change(&changes) ? MeshSnapshot(node.listing, environment: request.environment) : nil
        }
    }

    /// Waits until the node's view changes or the deadline passes.
    ///
    /// - Returns: whether the session continues.
    private func change(
        _ changes: inout ListingChanges.Iterator, before deadline: ContinuousClock.Instant? = nil
    ) async -> Bool {
        do {
            let change: Void? =
                if let deadline { try await changes.next(deadline: deadline) } else { await changes.next() }
            guard change != nil else { return false }
            try await Task.sleep(for: Self.interval)
            return true
        } catch let error as AstraNetError where error.code == .deadlineExceeded {
            return true
        } catch {
            return false
        }
    }

    /// Writes to standard output. A failure ends the session.
    private func write(_ text: String) async {
        do {
            try await output.write(ByteBuffer(string: text))
        } catch let error as SystemError where error.code == EPIPE {
            end(.outputClosed)
        } catch is CancellationError {
            // The session is ending and has its reason already.
        } catch {
            await output.report("\(error)")
            end(.failed)
        }
    }
}
