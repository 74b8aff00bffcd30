internal import Synchronization

/// What a node has refused because of its limits, since its start.
final class NodeCounters: Sendable {
    let refusedLinks = Atomic<Int>(0)
    let refusedServices = Atomic<Int>(0)
    let refusedStreams = Atomic<Int>(0)
    /// Streams that were failed because too many bytes were held.
    let overfullStreams = Atomic<Int>(0)
}
