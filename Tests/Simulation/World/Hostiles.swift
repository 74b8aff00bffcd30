import AstraNet

/// The host ids under which the adversary sends. The rules for the wire do not hold for ops of these ids.
struct Hostiles {
    /// The number of the adversary's host; `nil` without an adversary.
    var host: Int?
    /// The adversary's own host id.
    var id: HostID?
    /// The host ids of others that the adversary has claimed, by the host that it has told them.
    var claimed: [Int: Set<HostID>] = [:]

    /// Whether a host may have the op from the adversary, or sends it to the adversary.
    ///
    /// - Parameter hosts: the two hosts of the wire.
    func concern(_ op: WireOp, on hosts: [Int]) -> Bool {
        guard let id else { return false }
        let ids = [op.source.host, op.destination.host]
        return ids.contains(id) || hosts.contains { claimed[$0].map { !$0.isDisjoint(with: ids) } ?? false }
    }
}
