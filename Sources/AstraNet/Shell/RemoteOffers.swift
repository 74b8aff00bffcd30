/// The offers of other nodes, the penalties and addresses of their hosts, and the dials that wait for an offer.
struct RemoteOffers {
    struct OfferWaiter {
        var waiter: Waiter
        /// The route whose loss ends the wait; `nil` for none.
        var way: NodeCore.Way?
    }

    var registry = ServiceRegistry()
    var penalties = OfferPenalties()
    var discovery = Discovery()
    var ownAddresses = OwnAddresses()
    /// Dials that wait for an offer, by name.
    var waiters: [String: [OfferWaiter]] = [:]
    private var lastWaiter: UInt32 = 0

    /// Returns a number for a new wait.
    mutating func takeWaiterID() -> UInt32 {
        lastWaiter &+= 1
        return lastWaiter
    }

    mutating func wait(for name: String, _ waiter: Waiter, way: NodeCore.Way?) {
        waiters[name, default: []].append(OfferWaiter(waiter: waiter, way: way))
    }

    mutating func takeWaiter(_ id: UInt32, for name: String) -> Waiter? {
        guard let index = waiters[name]?.firstIndex(where: { $0.waiter.id == id }) else { return nil }
        let waiting = waiters[name]?.remove(at: index)
        if waiters[name]?.isEmpty == true { waiters[name] = nil }
        return waiting?.waiter
    }

    /// Removes and returns the dials that wait for an offer from a lost route.
    mutating func takeWaiters(where isGone: (NodeCore.Way) -> Bool) -> [Waiter] {
        var taken: [Waiter] = []
        for (name, waiting) in waiters where waiting.contains(where: { $0.way.map(isGone) ?? false }) {
            let (left, gone) = waiting.partitioned { $0.way.map(isGone) ?? false }
            taken += gone.map(\.waiter)
            waiters[name] = left.isEmpty ? nil : left
        }
        return taken
    }
}

extension Array {
    fileprivate func partitioned(by isSecond: (Element) -> Bool) -> (first: [Element], second: [Element]) {
        (filter { !isSecond($0) }, filter(isSecond))
    }
}
