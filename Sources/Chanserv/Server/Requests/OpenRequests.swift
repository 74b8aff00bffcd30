import NIOConcurrencyHelpers
import Synchronization

/// The open requests of one or more services, under one lock. No other type records which requests are open.
///
/// Draining a route, retiring a plugin instance, status, limits, operators' commands and shutdown query this set. It
/// also schedules the deadlines of the requests.
package final class OpenRequests: Sendable {
    /// Selects requests.
    package enum Selector: Sendable, Hashable {
        case all
        /// The requests of a service.
        case service(ObjectIdentifier)
        /// The requests of a service that began in this revision or earlier.
        case revision(ObjectIdentifier, through: UInt64)
        /// The requests that use this instance.
        case instance(UInt64)
    }

    fileprivate struct Entry {
        let scope: RequestScope
        /// `nil` until the body has arrived.
        var revision: UInt64?
        var instance: UInt64?
        /// The generation of the host when the instance was leased.
        var hostGeneration: UInt64?
        var isListing = true
        var isAnswered = false
        /// Whether the handler needs the request no more.
        var isHandlerFinished = false

        func matches(_ selector: Selector) -> Bool {
            switch selector {
            case .all: true
            case .service(let service): ObjectIdentifier(scope.service) == service
            case .revision(let service, let last):
                // A request without a complete body will begin in a later revision.
                ObjectIdentifier(scope.service) == service && (revision.map { $0 <= last } ?? (last == .max))
            case .instance(let instance): self.instance == instance
            }
        }
    }

    /// The number of open requests of a service. `nonisolated(unsafe)`: it is used only under the lock of its
    /// ``OpenRequests``.
    final class Counts: Sendable {
        fileprivate nonisolated(unsafe) var open = 0
        fileprivate nonisolated(unsafe) var listing = 0
    }

    fileprivate struct Storage {
        /// The entry of a request is at the index ``RequestScope/entryIndex``, so a look-up needs no hash. `nil` for a
        /// free index.
        var entries: [Entry?] = []
        /// Indexes without an entry.
        var free: [Int] = []
        /// The instances that accept requests. There are only a few.
        var openInstances: [UInt64] = []
        var waiters: [(selector: Selector, event: Event)] = []
        /// The time of the next check of the deadlines.
        var nextCheck: ContinuousClock.Instant?
    }

    let surroundings: NetworkEnvironment
    /// Receives the end of each request.
    package let log = RequestLog()
    private let lastID = Atomic<UInt64>(0)
    private let storage = NIOLockedValueBox(Storage())

    package init(surroundings: NetworkEnvironment) {
        self.surroundings = surroundings
    }

    // MARK: - Life of a request

    /// Whether another request of the service may list sources.
    func canList(_ service: VirtualService, atMost most: Int) -> Bool {
        storage.withLockedValue { _ in service.counts.listing < most }
    }

    /// Records a new request.
    func begin(_ scope: RequestScope) {
        storage.withLockedValue { storage in
            scope.service.counts.open += 1
            scope.service.counts.listing += 1
            if let index = storage.free.popLast() {
                scope.entryIndex = index
                storage.entries[index] = Entry(scope: scope)
            } else {
                scope.entryIndex = storage.entries.count
                storage.entries.append(Entry(scope: scope))
            }
        }
    }

    /// Capacity above which the memory of the entries is freed when no request is open.
    fileprivate static let keptCapacity = 1_024

    /// Returns a request number that is unique in this process.
    func nextID() -> UInt64 { lastID.add(1, ordering: .relaxed).newValue }

    /// Returns the number of open requests of a service.
    func openCount(of service: VirtualService) -> Int {
        storage.withLockedValue { _ in service.counts.open }
    }

    /// Records that the body of a request has arrived, and the revision of its service.
    func bodyArrived(_ scope: RequestScope, revision: UInt64) {
        storage.withLockedValue { $0.change(scope) { $0.revision = revision } }
    }

    /// Records that the request uses an instance until its handler has finished.
    ///
    /// - Returns: `false`, without a change, if the instance accepts no requests: ``open(instance:)`` was not called,
    ///   or ``close(instance:)`` was.
    package func use(instance: UInt64, hostGeneration: UInt64 = 0, for scope: RequestScope) -> Bool {
        storage.withLockedValue { storage in
            guard storage.openInstances.contains(instance) else { return false }
            storage.change(scope) { entry in
                entry.instance = instance
                entry.hostGeneration = hostGeneration
            }
            return true
        }
    }

    /// Lets the instance accept requests. Further calls do nothing.
    package func open(instance: UInt64) {
        storage.withLockedValue { storage in
            if !storage.openInstances.contains(instance) { storage.openInstances.append(instance) }
        }
    }

    /// Stops the instance from accepting requests.
    package func close(instance: UInt64) {
        storage.withLockedValue { $0.openInstances.removeAll { $0 == instance } }
    }

    /// Records that all sources of the request have been added.
    package func listed(_ scope: RequestScope) {
        storage.withLockedValue { storage in
            storage.change(scope) { entry in
                guard entry.isListing else { return }
                entry.isListing = false
                scope.service.counts.listing -= 1
            }
        }
    }

    /// Records that the request is answered. Its handler may still use it.
    package func answered(_ scope: RequestScope, isHandlerFinished: Bool) {
        end(scope) { entry in
            entry.isAnswered = true
            if isHandlerFinished { entry.isHandlerFinished = true }
        }
    }

    /// Records that the request is answered and that its handler needs it no more. The entry stays until
    /// ``answered(_:isHandlerFinished:)`` was called too, which another thread may be about to do. So the result is
    /// counted before the request is gone.
    package func handlerFinished(_ scope: RequestScope) {
        end(scope) { $0.isHandlerFinished = true }
    }

    private func end(_ scope: RequestScope, _ change: (inout Entry) -> Void) {
        let ready = storage.withLockedValue { storage -> [Event] in
            var ended = false
            storage.change(scope) { entry in
                let wasAnswered = entry.isAnswered
                change(&entry)
                if entry.isAnswered, !wasAnswered { scope.service.counts.open -= 1 }
                ended = entry.isAnswered && entry.isHandlerFinished
            }
            guard ended, let entry = storage.remove(scope), !storage.waiters.isEmpty else { return [] }
            return storage.takeReady(after: entry)
        }
        for event in ready { event.signal() }
    }

    // MARK: - Questions

    /// Returns the number of selected requests.
    package func count(_ selector: Selector) -> Int {
        storage.withLockedValue { $0.count(selector) }
    }

    /// The number of requests that are answered or cancelled and whose handler has not finished.
    package var unfinishedCount: Int {
        storage.withLockedValue { storage in storage.present.count { $0.isAnswered } }
    }

    /// Returns the selected requests, oldest first.
    package func requests(_ selector: Selector = .all) -> [RequestScope] {
        storage.withLockedValue { storage in
            storage.present.filter { $0.matches(selector) }.map(\.scope)
        }.sorted { $0.id < $1.id }
    }

    /// Returns the request with this number; `nil` if it is not open.
    package func request(id: UInt64) -> RequestScope? {
        storage.withLockedValue { $0.present.first { $0.scope.id == id }?.scope }
    }

    /// The number of requests in each generation of the host, as recorded by ``use(instance:hostGeneration:for:)``.
    package var countByGeneration: [UInt64: Int] {
        storage.withLockedValue { storage in
            storage.present.reduce(into: [:]) { counts, entry in
                if let generation = entry.hostGeneration { counts[generation, default: 0] += 1 }
            }
        }
    }

    /// Waits until none of the selected requests is left, until the deadline, or until the task is cancelled.
    ///
    /// - Returns: the number of selected requests that are left.
    package nonisolated(nonsending) func wait(
        untilNone selector: Selector, deadline: ContinuousClock.Instant
    ) async -> Int {
        let event = Event()
        let mustWait = storage.withLockedValue { storage in
            guard storage.count(selector) > 0 else { return false }
            storage.waiters.append((selector, event))
            return true
        }
        guard mustWait else { return 0 }
        _ = await event.wait(deadline: deadline, surroundings)
        return storage.withLockedValue { storage in
            storage.waiters.removeAll { $0.event === event }
            return storage.count(selector)
        }
    }

    /// Ends the selected requests. Their clients receive an error.
    package func cancel(_ selector: Selector, reason: String?) {
        for scope in requests(selector) { scope.cancel(.stopped(reason)) }
    }

    /// Ends one request.
    ///
    /// - Returns: whether it was open.
    package func cancel(id: UInt64, reason: String?) -> Bool {
        guard let scope = request(id: id) else { return false }
        scope.cancel(.stopped(reason))
        return true
    }

    // MARK: - Deadlines

    /// Minimum time between two checks of the deadlines: 10 ms.
    private static let precision = Duration.milliseconds(10)

    /// Schedules a check for a request that has a deadline at `instant`.
    func note(deadline instant: ContinuousClock.Instant) {
        let mustSchedule = storage.withLockedValue { storage in
            if let next = storage.nextCheck, next <= instant { return false }
            storage.nextCheck = instant
            return true
        }
        if mustSchedule { _ = surroundings.schedule(instant) { [weak self] in self?.checkDeadlines(at: instant) } }
    }

    private func checkDeadlines(at instant: ContinuousClock.Instant) {
        let scopes = storage.withLockedValue { storage -> [RequestScope] in
            // A check at an earlier time was scheduled meanwhile. It schedules the next check.
            guard storage.nextCheck == instant else { return [] }
            storage.nextCheck = nil
            return storage.present.map(\.scope)
        }
        let now = surroundings.now()
        var next: ContinuousClock.Instant?
        for scope in scopes {
            if let deadline = scope.expire(now: now) { next = min(next ?? deadline, deadline) }
        }
        if let next { note(deadline: max(next, now + Self.precision)) }
    }
}

extension OpenRequests.Storage {
    /// The entries of all open requests.
    fileprivate var present: some Sequence<OpenRequests.Entry> { entries.lazy.compactMap { $0 } }

    /// Changes the entry of a request, if there is one.
    fileprivate mutating func change(_ scope: RequestScope, _ body: (inout OpenRequests.Entry) -> Void) {
        let index = scope.entryIndex
        guard index < entries.count, entries[index]?.scope === scope else { return }
        body(&entries[index]!)
    }

    /// Removes and returns the entry of a request.
    fileprivate mutating func remove(_ scope: RequestScope) -> OpenRequests.Entry? {
        let index = scope.entryIndex
        guard index < entries.count, entries[index]?.scope === scope else { return nil }
        let entry = entries[index].take()
        free.append(index)
        // Frees the memory of a peak as soon as no request is open.
        if free.count == entries.count, entries.count > OpenRequests.keptCapacity {
            entries = []
            free = []
        }
        return entry
    }

    fileprivate func count(_ selector: OpenRequests.Selector) -> Int {
        if selector == .all { return entries.count - free.count }
        return present.reduce(0) { $0 + ($1.matches(selector) ? 1 : 0) }
    }

    /// Removes and returns the waits that select no request any more.
    fileprivate mutating func takeReady(after ended: OpenRequests.Entry) -> [Event] {
        var ready: [Event] = []
        let entries = entries
        waiters.removeAll { waiter in
            guard ended.matches(waiter.selector),
                !entries.lazy.compactMap({ $0 }).contains(where: { $0.matches(waiter.selector) })
            else { return false }
            ready.append(waiter.event)
            return true
        }
        return ready
    }
}
