internal import Synchronization

/// Counts of what a node has refused because of its limits, since its start.
final class NodeCounters: Sendable {
    let refusedLinks = Atomic<Int>(0)
    let refusedServices = Atomic<Int>(0)
    let refusedStreams = Atomic<Int>(0)
    /// Streams that failed because too many bytes were buffered.
    let overfullStreams = Atomic<Int>(0)
}
