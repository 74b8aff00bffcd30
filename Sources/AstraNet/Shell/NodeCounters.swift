internal import Synchronization

/// Counters of refusals because of the node's limits, since its start.
final class NodeCounters: Sendable {
    let refusedLinks = Atomic<Int>(0)
    let refusedServices = Atomic<Int>(0)
    let refusedStreams = Atomic<Int>(0)
    /// Number of streams that failed because a buffer limit was reached.
    let overfullStreams = Atomic<Int>(0)
}
