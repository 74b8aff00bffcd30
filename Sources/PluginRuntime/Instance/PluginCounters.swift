internal import Synchronization

/// Counters of an instance. Each is one relaxed atomic, so that polls do not contend for a lock.
package final class PluginCounters: Sendable {
    fileprivate let calls = Atomic<Int>(0)
    fileprivate let sources = Atomic<Int>(0)
    fileprivate let frames = Atomic<Int>(0)
    fileprivate let bytes = Atomic<Int>(0)
    fileprivate let polls = Atomic<Int>(0)
    fileprivate let emptyPolls = Atomic<Int>(0)
    fileprivate let overstays = Atomic<Int>(0)

    package init() {}

    func callOpened() { calls.add(1, ordering: .relaxed) }

    func sourceOpened() { sources.add(1, ordering: .relaxed) }

    func framesPolled(_ count: Int, bytes size: Int) {
        polls.add(1, ordering: .relaxed)
        guard count > 0 else { return }
        frames.add(count, ordering: .relaxed)
        bytes.add(size, ordering: .relaxed)
    }

    func sourcesPolled() { polls.add(1, ordering: .relaxed) }

    func emptyPoll() { emptyPolls.add(1, ordering: .relaxed) }

    func exceededBudget() { overstays.add(1, ordering: .relaxed) }
}

/// Snapshot of the counters. The values are read one after the other, not at the same instant.
package struct PluginStatistics: Sendable, Hashable, Codable {
    /// Calls opened since the instance was created.
    package var calls: Int
    /// Sources added since the instance was created.
    package var sources: Int
    /// Frames taken from the plugin.
    package var frames: Int
    /// Size of these frames in bytes, before compression.
    package var bytes: Int
    /// Calls of poll_sources and poll_frames.
    package var polls: Int
    /// Polls that answered READY without adding anything.
    package var emptyPolls: Int
    /// Calls that took longer than their budget.
    package var overstays: Int

    /// Statistics in which all counters are 0.
    package static let zero = PluginStatistics(PluginCounters())

    /// Adds the counters of another process, except `calls`.
    ///
    /// A worker process is not trusted. Negative values count as 0, and sums saturate.
    package static func += (total: inout Self, other: Self) {
        for counter in [\Self.sources, \.frames, \.bytes, \.polls, \.emptyPolls, \.overstays] {
            let (sum, overflows) = total[keyPath: counter].addingReportingOverflow(max(0, other[keyPath: counter]))
            total[keyPath: counter] = overflows ? .max : sum
        }
    }

    package init(_ counters: PluginCounters) {
        calls = counters.calls.load(ordering: .relaxed)
        sources = counters.sources.load(ordering: .relaxed)
        frames = counters.frames.load(ordering: .relaxed)
        bytes = counters.bytes.load(ordering: .relaxed)
        polls = counters.polls.load(ordering: .relaxed)
        emptyPolls = counters.emptyPolls.load(ordering: .relaxed)
        overstays = counters.overstays.load(ordering: .relaxed)
    }
}
