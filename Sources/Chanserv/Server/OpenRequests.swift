import NIOConcurrencyHelpers
import Synchronization

/// The open requests of one or more services: what is open is recorded here, under one lock, and nowhere else.
///
/// Draining a route, retiring a plugin's instance, status, limits, operators' commands and shutdown are questions to this set.
/// It also keeps the deadlines of the requests.
package final class OpenRequests: Sendable {
    /// Which requests a question is about.
    package enum Question: Sendable, Hashable {
        case all
        /// Those of a service.
        case service(ObjectIdentifier)
        /// Those of a service that began no later than this generation.
        case generation(ObjectIdentifier, through: UInt64)
        /// Those that use this instance.
        case lease(UInt64)
    }

    fileprivate struct Entry {
        let scope: RequestScope
        /// `nil` while the body is coming.
        var generation: UInt64?
        var lease: UInt64?
        /// Of the whole host, when the instance was leased.
        var hostGeneration: UInt64?
        var isListing = true
        var isAnswered = false
        /// No code works on it any more.
        var isReleased = false

        func isMeant(by question: Question) -> Bool {
            switch question {
            case .all: true
            case .service(let service): ObjectIdentifier(scope.service) == service
            case .generation(let service, let last):
                // A request whose body is still coming will begin on a later one.
                ObjectIdentifier(scope.service) == service && (generation.map { $0 <= last } ?? (last == .max))
            case .lease(let lease): self.lease == lease
            }
        }
    }

    /// Number of open requests of a service. Unsafe for the compiler: used under the lock of its ``OpenRequests`` only.
    final class Counts: Sendable {
        fileprivate nonisolated(unsafe) var open = 0
        fileprivate nonisolated(unsafe) var listing = 0
    }

    fileprivate struct Inside {
        /// Each at the ``RequestScope/place`` of its request; `nil` where there is none. Looking one up costs no hash.
        var entries: [Entry?] = []
        /// Places without an entry.
        var free: [Int] = []
        /// Instances that take requests: a few.
        var openLeases: [UInt64] = []
        var waiters: [(question: Question, event: Event)] = []
        /// When the deadlines are looked at next.
        var nextLook: ContinuousClock.Instant?
    }

    let surroundings: NetworkSurroundings
    private let lastID = Atomic<UInt64>(0)
    private let inside = NIOLockedValueBox(Inside())

    package init(surroundings: NetworkSurroundings) {
        self.surroundings = surroundings
    }

    // MARK: - Life of a request

    /// Whether another request of the service may be listed.
    func mayList(_ service: Service, atMost most: Int) -> Bool {
        inside.withLockedValue { _ in service.counts.listing < most }
    }

    /// A request begins.
    func begin(_ scope: RequestScope) {
        inside.withLockedValue { inside in
            scope.service.counts.open += 1
            scope.service.counts.listing += 1
            if let place = inside.free.popLast() {
                scope.place = place
                inside.entries[place] = Entry(scope: scope)
            } else {
                scope.place = inside.entries.count
                inside.entries.append(Entry(scope: scope))
            }
        }
    }

    /// More places than this are given up when no request is open.
    fileprivate static let keptPlaces = 1_024

    /// A number for a request, never used again.
    func nextID() -> UInt64 { lastID.add(1, ordering: .relaxed).newValue }

    /// How many requests of a service are open.
    func openCount(of service: Service) -> Int {
        inside.withLockedValue { _ in service.counts.open }
    }

    /// The body is there: the request belongs to this generation of its service.
    func bodyCame(_ scope: RequestScope, generation: UInt64) {
        inside.withLockedValue { $0.change(scope) { $0.generation = generation } }
    }

    /// The request uses an instance until it is released.
    ///
    /// - Returns: `false`, and nothing changed, if the instance takes no requests: ``open(lease:)`` was not called, or
    ///   ``close(lease:)`` was.
    package func lease(_ lease: UInt64, generation: UInt64 = 0, for scope: RequestScope) -> Bool {
        inside.withLockedValue { inside in
            guard inside.openLeases.contains(lease) else { return false }
            inside.change(scope) { entry in
                entry.lease = lease
                entry.hostGeneration = generation
            }
            return true
        }
    }

    /// The instance takes requests from now on. Repeating it does nothing.
    package func open(lease: UInt64) {
        inside.withLockedValue { inside in
            if !inside.openLeases.contains(lease) { inside.openLeases.append(lease) }
        }
    }

    /// The instance takes no more requests.
    package func close(lease: UInt64) {
        inside.withLockedValue { $0.openLeases.removeAll { $0 == lease } }
    }

    /// All sources of the request are known.
    func listed(_ scope: RequestScope) {
        inside.withLockedValue { inside in
            inside.change(scope) { entry in
                guard entry.isListing else { return }
                entry.isListing = false
                scope.service.counts.listing -= 1
            }
        }
    }

    /// The request is answered; code may still work on it.
    func answered(_ scope: RequestScope, isOver: Bool) {
        end(scope) { entry in
            entry.isAnswered = true
            if isOver { entry.isReleased = true }
        }
    }

    /// No code works on the request any more, and it was answered. Another thread may still be about to say so with
    /// ``answered(_:isOver:)``: the request is here until then, so that its result is counted when it is gone.
    func over(_ scope: RequestScope) {
        end(scope) { $0.isReleased = true }
    }

    private func end(_ scope: RequestScope, _ change: (inout Entry) -> Void) {
        let ready = inside.withLockedValue { inside -> [Event] in
            var ended = false
            inside.change(scope) { entry in
                let wasAnswered = entry.isAnswered
                change(&entry)
                if entry.isAnswered, !wasAnswered { scope.service.counts.open -= 1 }
                ended = entry.isAnswered && entry.isReleased
            }
            guard ended, let entry = inside.remove(scope), !inside.waiters.isEmpty else { return [] }
            return inside.takeReady(after: entry)
        }
        for event in ready { event.signal() }
    }

    // MARK: - Questions

    /// How many requests are meant.
    package func count(_ question: Question) -> Int {
        inside.withLockedValue { $0.count(question) }
    }

    /// The requests that are meant, oldest first.
    package func requests(_ question: Question = .all) -> [RequestScope] {
        inside.withLockedValue { inside in
            inside.present.filter { $0.isMeant(by: question) }.map(\.scope)
        }.sorted { $0.id < $1.id }
    }

    /// The request with this number; `nil` if it is not open.
    package func request(id: UInt64) -> RequestScope? {
        inside.withLockedValue { $0.present.first { $0.scope.id == id }?.scope }
    }

    /// How many requests each generation of the host has, as numbered by ``lease(_:generation:for:)``.
    package var countByGeneration: [UInt64: Int] {
        inside.withLockedValue { inside in
            inside.present.reduce(into: [:]) { counts, entry in
                if let generation = entry.hostGeneration { counts[generation, default: 0] += 1 }
            }
        }
    }

    /// Waits until none of the requests that are meant is left, until the deadline, or until the task is cancelled.
    ///
    /// - Returns: how many are left.
    package nonisolated(nonsending) func wait(
        untilNone question: Question, deadline: ContinuousClock.Instant
    ) async -> Int {
        let event = Event()
        let mustWait = inside.withLockedValue { inside in
            guard inside.count(question) > 0 else { return false }
            inside.waiters.append((question, event))
            return true
        }
        guard mustWait else { return 0 }
        _ = await event.wait(deadline: deadline, surroundings)
        return inside.withLockedValue { inside in
            inside.waiters.removeAll { $0.event === event }
            return inside.count(question)
        }
    }

    /// Ends the requests that are meant; their clients get an error.
    package func cancel(_ question: Question, reason: String?) {
        for scope in requests(question) { scope.cancel(.stopped(reason)) }
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

    /// Deadlines are kept to within this time: 10 ms.
    private static let precision = Duration.milliseconds(10)

    /// A request has a deadline at `instant`.
    func note(deadline instant: ContinuousClock.Instant) {
        let mustSchedule = inside.withLockedValue { inside in
            if let next = inside.nextLook, next <= instant { return false }
            inside.nextLook = instant
            return true
        }
        if mustSchedule { _ = surroundings.schedule(instant) { [weak self] in self?.look(at: instant) } }
    }

    private func look(at instant: ContinuousClock.Instant) {
        let scopes = inside.withLockedValue { inside -> [RequestScope] in
            // An earlier deadline came meanwhile, and its look schedules the next one.
            guard inside.nextLook == instant else { return [] }
            inside.nextLook = nil
            return inside.present.map(\.scope)
        }
        let now = surroundings.now()
        var next: ContinuousClock.Instant?
        for scope in scopes {
            if let deadline = scope.expire(now: now) { next = min(next ?? deadline, deadline) }
        }
        if let next { note(deadline: max(next, now + Self.precision)) }
    }
}

extension OpenRequests.Inside {
    /// The entries there are.
    fileprivate var present: some Sequence<OpenRequests.Entry> { entries.lazy.compactMap { $0 } }

    /// Changes the entry of a request, if it is there.
    fileprivate mutating func change(_ scope: RequestScope, _ body: (inout OpenRequests.Entry) -> Void) {
        let place = scope.place
        guard place < entries.count, entries[place]?.scope === scope else { return }
        body(&entries[place]!)
    }

    /// Takes out the entry of a request.
    fileprivate mutating func remove(_ scope: RequestScope) -> OpenRequests.Entry? {
        let place = scope.place
        guard place < entries.count, entries[place]?.scope === scope else { return nil }
        let entry = entries[place].take()
        free.append(place)
        // The memory of a peak is returned as soon as no request is open.
        if free.count == entries.count, entries.count > OpenRequests.keptPlaces {
            entries = []
            free = []
        }
        return entry
    }

    fileprivate func count(_ question: OpenRequests.Question) -> Int {
        if question == .all { return entries.count - free.count }
        return present.reduce(0) { $0 + ($1.isMeant(by: question) ? 1 : 0) }
    }

    /// Takes out the waits for questions that nothing is meant by any more.
    fileprivate mutating func takeReady(after ended: OpenRequests.Entry) -> [Event] {
        var ready: [Event] = []
        let entries = entries
        waiters.removeAll { waiter in
            guard ended.isMeant(by: waiter.question),
                !entries.lazy.compactMap({ $0 }).contains(where: { $0.isMeant(by: waiter.question) })
            else { return false }
            ready.append(waiter.event)
            return true
        }
        return ready
    }
}
