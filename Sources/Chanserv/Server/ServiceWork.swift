import NIOConcurrencyHelpers

/// The requests and sources of a service that have not ended: their tasks, so that they can be cancelled one by one and
/// waited for, and the counters.
final class ServiceWork: Sendable {
    /// Why something was cancelled.
    enum Reason: Sendable, Hashable {
        /// Its client ended the connection.
        case clientGone
        /// A deadline passed, which the text names.
        case deadline(String)
        /// The service's owner wants it to end, for this reason if it gave one.
        case stopped(String?)
    }

    enum Kind: Sendable {
        /// A withdrawn name that still lets in who dialled before; not counted.
        case accepting
        case request
        /// A source that waits for its client.
        case announced
        /// A source that is being sent.
        case source
    }

    typealias ID = UInt64

    private struct Entry {
        let generation: UInt64
        var kind: Kind
        var task: Task<Void, Never>?
        var reason: Reason?
        /// Nobody will fetch it: its wait ends, or does not begin.
        var isGivenUp = false

        var isCancelled: Bool { reason != nil || (isGivenUp && kind == .announced) }
    }

    private struct Inside {
        var nextID: ID = 0
        var entries: [ID: Entry] = [:]
        /// How many entries each generation has.
        var open: [UInt64: Int] = [:]
        var waiters: [(through: UInt64, alarm: Task<Void, any Error>)] = []
        var counters = Service.Counters()

        func count(through generation: UInt64) -> Int {
            open.reduce(0) { $1.key <= generation ? $0 + $1.value : $0 }
        }
    }

    private let inside = NIOLockedValueBox(Inside())

    // MARK: Life of one piece of work

    func add(_ kind: Kind, generation: UInt64) -> ID {
        inside.withLockedValue { inside in
            let id = inside.nextID
            inside.nextID += 1
            inside.entries[id] = Entry(generation: generation, kind: kind)
            inside.open[generation, default: 0] += 1
            inside.counters.count(kind, 1)
            switch kind {
            case .accepting: break
            case .request: inside.counters.requestsTotal += 1
            case .announced, .source: inside.counters.sourcesTotal += 1
            }
            return id
        }
    }

    /// Starts the task of `id`, or the next one where it has stages.
    func run(_ id: ID, on executor: (any TaskExecutor)?, _ body: @escaping @Sendable () async -> Void) {
        keep(Task(executorPreference: executor) { await body() }, of: id)
    }

    /// As ``run(_:on:_:)``, for what waits before it does anything: it begins at once, on the caller's thread.
    func wait(_ id: ID, on executor: (any TaskExecutor)?, _ body: @escaping @Sendable () async -> Void) {
        keep(Task.immediate(executorPreference: executor) { await body() }, of: id)
    }

    private func keep(_ task: Task<Void, Never>, of id: ID) {
        let cancelled = inside.withLockedValue { inside -> Bool in
            inside.entries[id]?.task = task
            return inside.entries[id]?.isCancelled ?? false
        }
        if cancelled { task.cancel() }
    }

    /// An announced source has its client.
    func accepted(_ id: ID) {
        inside.withLockedValue { inside in
            guard inside.entries[id]?.kind == .announced else { return }
            inside.entries[id]?.kind = .source
            inside.counters.count(.announced, -1)
            inside.counters.count(.source, 1)
        }
    }

    /// Why `id` was cancelled, `nil` where it was not.
    func reason(_ id: ID) -> Reason? {
        inside.withLockedValue { $0.entries[id]?.reason }
    }

    /// Cancels `id`. The first reason stays.
    func cancel(_ id: ID, _ reason: Reason) {
        let task = inside.withLockedValue { inside -> Task<Void, Never>? in
            guard inside.entries[id] != nil, inside.entries[id]?.reason == nil else { return nil }
            inside.entries[id]?.reason = reason
            return inside.entries[id]?.task
        }
        task?.cancel()
    }

    /// Ends the wait of `id` for its client. A client that came at the same moment is served.
    func cancelAnnounced(_ id: ID) {
        let task = inside.withLockedValue { inside in
            inside.entries[id]?.isGivenUp = true
            return inside.entries[id]?.kind == .announced ? inside.entries[id]?.task : nil
        }
        task?.cancel()
    }

    func ended(_ id: ID) {
        let ready = inside.withLockedValue { inside -> [Task<Void, any Error>] in
            guard let entry = inside.entries.removeValue(forKey: id) else { return [] }
            inside.counters.count(entry.kind, -1)
            let left = (inside.open[entry.generation] ?? 1) - 1
            inside.open[entry.generation] = left == 0 ? nil : left
            guard left == 0, !inside.waiters.isEmpty else { return [] }
            let open = inside.open
            let ready = inside.waiters.filter { waiter in !open.keys.contains { $0 <= waiter.through } }
            inside.waiters.removeAll { waiter in !open.keys.contains { $0 <= waiter.through } }
            return ready.map(\.alarm)
        }
        for alarm in ready { alarm.cancel() }
    }

    // MARK: All of it

    func cancelAll(through generation: UInt64, reason: String?) {
        let tasks = inside.withLockedValue { inside in
            var tasks: [Task<Void, Never>] = []
            for (id, entry) in inside.entries where entry.generation <= generation && entry.reason == nil {
                inside.entries[id]?.reason = .stopped(reason)
                if let task = entry.task { tasks.append(task) }
            }
            return tasks
        }
        for task in tasks { task.cancel() }
    }

    /// Waits for all work of `generation` and before, until `deadline` or until the caller is cancelled.
    ///
    /// - Returns: how much is left.
    func waitUntilIdle(through generation: UInt64, deadline: ContinuousClock.Instant) async -> Int {
        let alarm = inside.withLockedValue { inside -> Task<Void, any Error>? in
            guard inside.count(through: generation) > 0 else { return nil }
            let alarm = Task { try await Task.sleep(until: deadline, clock: .continuous) }
            inside.waiters.append((generation, alarm))
            return alarm
        }
        guard let alarm else { return 0 }
        _ = await withTaskCancellationHandler {
            await alarm.result
        } onCancel: {
            alarm.cancel()
        }
        return inside.withLockedValue { inside in
            inside.waiters.removeAll { $0.alarm == alarm }
            return inside.count(through: generation)
        }
    }

    // MARK: Counters

    var counters: Service.Counters { inside.withLockedValue { $0.counters } }

    func countFailure() {
        inside.withLockedValue { $0.counters.failures += 1 }
    }

    /// Once a batch, not once a frame.
    func countSent(frames: Int, bytes: Int) {
        inside.withLockedValue { inside in
            inside.counters.frames += frames
            inside.counters.bytes += bytes
        }
    }
}

extension Service.Counters {
    fileprivate mutating func count(_ kind: ServiceWork.Kind, _ change: Int) {
        switch kind {
        case .accepting: break
        case .request: requestsOpen += change
        case .announced: sourcesWaiting += change
        case .source: sourcesOpen += change
        }
    }
}
