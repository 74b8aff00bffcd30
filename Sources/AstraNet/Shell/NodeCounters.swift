internal import Synchronization

/// Counters of refusals because of the node's limits and access rules, since its start.
final class NodeCounters: Sendable {
    let refusedLinks = Atomic<Int>(0)
    let refusedServices = Atomic<Int>(0)
    let refusedStreams = Atomic<Int>(0)
    /// Number of connections that were not secured: no TLS, or no valid certificate.
    let insecureConnections = Atomic<Int>(0)
    /// Number of links that claimed the id of a host with another identity.
    let forgedHosts = Atomic<Int>(0)
    /// Number of ops of other hosts that the access rules do not allow.
    let forgedOps = Atomic<Int>(0)
    /// Number of services that the access rules do not allow.
    let forbiddenServices = Atomic<Int>(0)
    /// Number of streams that failed because a buffer limit was reached.
    let overfullStreams = Atomic<Int>(0)
}
