internal import NIOConcurrencyHelpers
internal import NIOCore
internal import Synchronization

extension Node {
    /// Tells when ``listing`` has something new: a link or a service that came or went, or a shorter round trip. Not told are
    /// the numbers of what is held and refused.
    ///
    /// ```swift
    /// var changes = node.listingChanges.makeAsyncIterator()
    /// repeat { show(node.listing) } while await changes.next() != nil
    /// ```
    public var listingChanges: ListingChanges { ListingChanges(watchers: core.watchers) }
}

/// A word whenever something is new in what a node knows of the mesh.
///
/// It says that there was a change and not which: however many there were since the last word, there is one. An iterator that
/// was made before the listing was looked at misses none. Ends when the node is shut down or the task is cancelled.
public struct ListingChanges: AsyncSequence, Sendable {
    public typealias Element = Void
    public typealias Failure = Never

    let watchers: ListingWatchers

    public func makeAsyncIterator() -> Iterator { Iterator(watch: ListingWatchers.Watch(watchers)) }

    /// One who watches, for one task at a time.
    public struct Iterator: AsyncIteratorProtocol {
        let watch: ListingWatchers.Watch

        /// Waits for a change, unless there was one since the last; `nil` when the node is shut down or the task is cancelled.
        public mutating func next(isolation actor: isolated (any Actor)? = #isolation) async -> Void? {
            do {
                return try await watch.change(deadline: nil) ? () : nil
            } catch {
                // Cancelled; without a deadline there is no other reason.
                return nil
            }
        }

        public mutating func next() async -> Void? { await next(isolation: nil) }

        /// As ``next()``, for as long as there is time.
        ///
        /// - Throws: ``AstraNetError`` with code `deadlineExceeded`; `CancellationError`.
        public mutating func next(deadline: ContinuousClock.Instant) async throws -> Void? {
            try await watch.change(deadline: deadline) ? () : nil
        }
    }
}

/// Who wants to know of changes of a node's listing. Where nobody does, a change costs one look at a flag.
final class ListingWatchers: Sendable {
    private struct Entry {
        var hasChanged = false
        var waiter: Waiter?
        var lastWait: UInt32 = 0
    }

    private struct Inside {
        var entries: [UInt64: Entry] = [:]
        var lastID: UInt64 = 0
        var isOver = false

        /// Whether the listing has changed since `watcher` looked last; `nil` to wait. And the number of the wait.
        mutating func look(_ watcher: UInt64) -> (Bool?, UInt32) {
            guard var entry = entries[watcher] else { return (false, 0) }
            entry.lastWait &+= 1
            defer { entries[watcher] = entry }
            guard entry.hasChanged else { return (nil, entry.lastWait) }
            entry.hasChanged = false
            return (true, entry.lastWait)
        }
    }

    private let inside = NIOLockedValueBox(Inside())
    private let isWatched = Atomic<Bool>(false)
    private let deadlines: Deadlines
    private let surroundings: Surroundings
    private let timers: any EventLoop

    init(_ deadlines: Deadlines, _ surroundings: Surroundings, on timers: any EventLoop) {
        self.deadlines = deadlines
        self.surroundings = surroundings
        self.timers = timers
    }

    /// The listing has something new. Called behind the change, under no lock that a watcher may hold.
    func changed() {
        // Whoever began to watch and then did not see the change when it looked, did so before the change: the lock of what was
        // changed has made the flag known here.
        guard isWatched.load(ordering: .relaxed) else { return }
        let waiters = inside.withLockedValue { inside in
            inside.entries.keys.compactMap { id -> Waiter? in
                let waiter = inside.entries[id]?.waiter
                inside.entries[id]?.hasChanged = true
                inside.entries[id]?.waiter = nil
                return waiter
            }
        }
        for waiter in waiters { waiter.resume() }
    }

    /// There will be no more changes.
    func finish() {
        let waiters = inside.withLockedValue { inside in
            inside.isOver = true
            defer { inside.entries = [:] }
            return inside.entries.values.compactMap(\.waiter)
        }
        for waiter in waiters { waiter.resume() }
    }

    /// How many watch.
    var count: Int { inside.withLockedValue { $0.entries.count } }

    private func begin() -> UInt64 {
        inside.withLockedValue { inside in
            inside.lastID += 1
            guard !inside.isOver else { return inside.lastID }
            inside.entries[inside.lastID] = Entry()
            isWatched.store(true, ordering: .relaxed)
            return inside.lastID
        }
    }

    private func end(_ id: UInt64) {
        inside.withLockedValue { inside in
            inside.entries[id] = nil
            if inside.entries.isEmpty { isWatched.store(false, ordering: .relaxed) }
        }
    }

    /// Waits for a change; `false` when there will be none.
    private func change(for watcher: UInt64, deadline: ContinuousClock.Instant?) async throws -> Bool {
        let instant = deadline.map { surroundings.deadline($0, on: timers) }
        while true {
            let (result, id) = inside.withLockedValue { $0.look(watcher) }
            if let result { return result }
            let place = WaitForChange(watchers: self, watcher: watcher)
            switch await suspend(in: place, id: id, within: deadlines, until: instant) {
            case .ready, .gone: continue
            case .expired: throw AstraNetError(.deadlineExceeded, "nothing has changed")
            case .cancelled: throw CancellationError()
            }
        }
    }

    /// Where a watcher waits for a change.
    private struct WaitForChange: WaitPlace {
        let watchers: ListingWatchers
        let watcher: UInt64

        func put(_ waiter: Waiter) -> Bool {
            watchers.inside.withLockedValue { inside in
                guard let entry = inside.entries[watcher], !entry.hasChanged else { return false }
                precondition(entry.waiter == nil, "two tasks wait on one iterator")
                inside.entries[watcher]?.waiter = waiter
                return true
            }
        }

        func takeWaiter(_ id: UInt32) -> Waiter? {
            watchers.inside.withLockedValue { inside in
                guard let waiter = inside.entries[watcher]?.waiter, waiter.id == id else { return nil }
                inside.entries[watcher]?.waiter = nil
                return waiter
            }
        }
    }

    /// One who watches, for as long as it is kept.
    final class Watch: Sendable {
        private let watchers: ListingWatchers
        private let id: UInt64

        init(_ watchers: ListingWatchers) {
            self.watchers = watchers
            id = watchers.begin()
        }

        deinit { watchers.end(id) }

        func change(deadline: ContinuousClock.Instant?) async throws -> Bool {
            try await watchers.change(for: id, deadline: deadline)
        }
    }
}
