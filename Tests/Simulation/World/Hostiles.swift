import AstraNet

/// The host ids under which the adversary sends. The rules for the wire do not hold for ops of these ids.
struct Hostiles {
    /// The number of the adversary's host; `nil` without an adversary.
    var host: Int?
    /// The adversary's own host id.
    var id: HostID?
    /// The host ids of others that the adversary has claimed, by the host that it has told them.
    var claimed: [Int: Set<HostID>] = [:]
    /// The number of ops that have arrived from the adversary.
    var received = 0

    /// Whether the adversary may have told a host that it has this host id.
    func uses(_ id: HostID, at host: Int) -> Bool { id == self.id || claimed[host]?.contains(id) ?? false }
}
