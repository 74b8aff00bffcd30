internal import NIOConcurrencyHelpers
internal import NIOCore
internal import Synchronization

extension Node {
    /// A sequence that reports changes of ``listing``: a new or lost link or service, or a shorter round trip. Changes
    /// of the buffered bytes and of the refused counts are not reported.
    ///
    /// ```swift
    /// var changes = node.listingChanges.makeAsyncIterator()
    /// repeat { show(node.listing) } while await changes.next() != nil
    /// ```
    public var listingChanges: ListingChanges { ListingChanges(watchers: core.watchers) }
}

/// An asynchronous sequence of change notifications for a node's listing.
///
/// An element says that the listing has changed, but not how. Changes since the last element are reported as one
/// element. To miss no change, make the iterator before you read the listing. The sequence ends when the node is shut
/// down or the task is cancelled.
public struct ListingChanges: AsyncSequence, Sendable {
    public typealias Element = Void
    public typealias Failure = Never

    let watchers: ListingWatchers

    public func makeAsyncIterator() -> Iterator { Iterator(watch: ListingWatchers.Watch(watchers)) }

    /// An iterator for one task at a time.
    public struct Iterator: AsyncIteratorProtocol {
        let watch: ListingWatchers.Watch

        /// Waits for a change. Returns at once if there was one since the last call, and `nil` when the node is shut
        /// down or the task is cancelled.
        public mutating func next(isolation actor: isolated (any Actor)? = #isolation) async -> Void? {
            do {
                return try await watch.change(deadline: nil) ? () : nil
            } catch {
                // The task was cancelled. Without a deadline there is no other error.
                return nil
            }
        }

        public mutating func next() async -> Void? { await next(isolation: nil) }

        /// Waits for a change as ``next()`` does, until `deadline`.
        ///
        /// - Throws: ``AstraNetError`` with code `deadlineExceeded`; `CancellationError`.
        public mutating func next(deadline: ContinuousClock.Instant) async throws -> Void? {
            try await watch.change(deadline: deadline) ? () : nil
        }
    }
}

/// Notifies the iterators of listing changes. Without iterators a change costs one atomic load.
package final class ListingWatchers: Sendable {
    private struct Entry {
        var hasChanged = false
        var waiter: Waiter?
        var lastWait: UInt32 = 0
    }

    private struct State {
        var entries: [UInt64: Entry] = [:]
        var lastID: UInt64 = 0
        var isFinished = false

        /// Takes the change flag of `watcher`.
        ///
        /// - Returns: `true` if the listing has changed since the last call, `false` if it does not change any more,
        ///   `nil` if the caller must wait; and the number of the wait.
        mutating func takeChange(_ watcher: UInt64) -> (Bool?, UInt32) {
            guard var entry = entries[watcher] else { return (false, 0) }
            entry.lastWait &+= 1
            defer { entries[watcher] = entry }
            guard entry.hasChanged else { return (nil, entry.lastWait) }
            entry.hasChanged = false
            return (true, entry.lastWait)
        }
    }

    private let state = NIOLockedValueBox(State())
    private let isWatched = Atomic<Bool>(false)
    private let deadlines: Deadlines
    private let surroundings: NodeDependencies
    private let timers: any EventLoop

    init(_ deadlines: Deadlines, _ surroundings: NodeDependencies, on timers: any EventLoop) {
        self.deadlines = deadlines
        self.surroundings = surroundings
        self.timers = timers
    }

    /// Reports a change of the listing. The caller has made the change, and holds no lock that a watcher may take.
    func changed() {
        // A relaxed load is enough. A watcher sets the flag before it reads the listing. If it read the listing before
        // this change, the lock of the listing makes the flag visible here.
        guard isWatched.load(ordering: .relaxed) else { return }
        let waiters = state.withLockedValue { state in
            state.entries.keys.compactMap { id -> Waiter? in
                let waiter = state.entries[id]?.waiter
                state.entries[id]?.hasChanged = true
                state.entries[id]?.waiter = nil
                return waiter
            }
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Ends all sequences: the listing does not change any more.
    func finish() {
        let waiters = state.withLockedValue { state in
            state.isFinished = true
            defer { state.entries = [:] }
            return state.entries.values.compactMap(\.waiter)
        }
        for waiter in waiters { waiter.resume() }
    }

    /// The number of watchers.
    package var count: Int { state.withLockedValue { $0.entries.count } }

    private func addWatcher() -> UInt64 {
        state.withLockedValue { state in
            state.lastID += 1
            guard !state.isFinished else { return state.lastID }
            state.entries[state.lastID] = Entry()
            isWatched.store(true, ordering: .relaxed)
            return state.lastID
        }
    }

    private func removeWatcher(_ id: UInt64) {
        state.withLockedValue { state in
            state.entries[id] = nil
            if state.entries.isEmpty { isWatched.store(false, ordering: .relaxed) }
        }
    }

    /// Waits for a change. Returns `false` if the listing does not change any more.
    private func change(for watcher: UInt64, deadline: ContinuousClock.Instant?) async throws -> Bool {
        let instant = deadline.map { surroundings.deadline($0, on: timers) }
        while true {
            let (result, id) = state.withLockedValue { $0.takeChange(watcher) }
            if let result { return result }
            let place = WaitForChange(watchers: self, watcher: watcher)
            switch await suspend(in: place, id: id, within: deadlines, until: instant) {
            case .ready, .gone: continue
            case .expired: throw AstraNetError(.deadlineExceeded, "the mesh listing did not change")
            case .cancelled: throw CancellationError()
            }
        }
    }

    /// The place of a watcher's wait.
    private struct WaitForChange: WaitPlace {
        let watchers: ListingWatchers
        let watcher: UInt64

        func put(_ waiter: Waiter) -> Bool {
            watchers.state.withLockedValue { state in
                guard let entry = state.entries[watcher], !entry.hasChanged else { return false }
                precondition(entry.waiter == nil, "two tasks wait on one iterator")
                state.entries[watcher]?.waiter = waiter
                return true
            }
        }

        func takeWaiter(_ id: UInt32) -> Waiter? {
            watchers.state.withLockedValue { state in
                guard let waiter = state.entries[watcher]?.waiter, waiter.id == id else { return nil }
                state.entries[watcher]?.waiter = nil
                return waiter
            }
        }
    }

    /// A registration as a watcher. It ends when the object is released.
    final class Watch: Sendable {
        private let watchers: ListingWatchers
        private let id: UInt64

        init(_ watchers: ListingWatchers) {
            self.watchers = watchers
            id = watchers.addWatcher()
        }

        deinit { watchers.removeWatcher(id) }

        func change(deadline: ContinuousClock.Instant?) async throws -> Bool {
            try await watchers.change(for: id, deadline: deadline)
        }
    }
}
