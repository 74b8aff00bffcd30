/// The offers of other nodes, the discovery of direct paths to their hosts, and the dials that wait for an offer.
package struct RemoteOffers {
    struct OfferWaiter {
        var waiter: Waiter
        /// Path whose loss ends the wait; `nil` if the wait does not depend on a path.
        var hostLink: NodeCore.HostLink?
    }

    var registry = ServiceRegistry()
    package var penalties = OfferPenalties()
    var discovery = Discovery()
    var ownAddresses = OwnAddresses()
    /// Dials that wait for an offer, by service name.
    var waiters: [String: [OfferWaiter]] = [:]
    private var lastWaiter: UInt32 = 0

    /// Returns a new ID for a waiter.
    mutating func takeWaiterID() -> UInt32 {
        lastWaiter &+= 1
        return lastWaiter
    }

    mutating func wait(for name: String, _ waiter: Waiter, hostLink: NodeCore.HostLink?) {
        waiters[name, default: []].append(OfferWaiter(waiter: waiter, hostLink: hostLink))
    }

    mutating func takeWaiter(_ id: UInt32, for name: String) -> Waiter? {
        guard let index = waiters[name]?.firstIndex(where: { $0.waiter.id == id }) else { return nil }
        let waiting = waiters[name]?.remove(at: index)
        if waiters[name]?.isEmpty == true { waiters[name] = nil }
        return waiting?.waiter
    }

    /// Removes and returns the dials that depend on a lost path.
    mutating func takeWaiters(where isLost: (NodeCore.HostLink) -> Bool) -> [Waiter] {
        var taken: [Waiter] = []
        for (name, waiting) in waiters where waiting.contains(where: { $0.hostLink.map(isLost) ?? false }) {
            let (remaining, lost) = waiting.partitioned { $0.hostLink.map(isLost) ?? false }
            taken += lost.map(\.waiter)
            waiters[name] = remaining.isEmpty ? nil : remaining
        }
        return taken
    }
}

extension Array {
    fileprivate func partitioned(by isSecond: (Element) -> Bool) -> (first: [Element], second: [Element]) {
        (filter { !isSecond($0) }, filter(isSecond))
    }
}
