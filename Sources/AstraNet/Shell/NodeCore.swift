internal import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore

/// What a node's links share: who is linked, who is bound here, who offers what elsewhere, and who waits for an offer.
final class NodeCore: Sendable {
    typealias LinkID = ServiceRegistry.LinkID

    let id: HostID
    let configuration: NodeConfiguration
    let log: Logger
    let surroundings: Surroundings
    let group: any EventLoopGroup
    /// Where deadlines and joins run that belong to no link.
    let timers: any EventLoop
    let deadlines: Deadlines
    /// Where tasks run that wait for streams.
    let executor: LoopExecutor
    let buffered: BufferBudget
    let counters = NodeCounters()
    let cookies: PushCookies
    let watchers: ListingWatchers
    let shared: NIOLockedValueBox<Shared>
    let joining = NIOLockedValueBox(Joining())

    struct Shared {
        var lastPort = Address.firstDynamicPort - 1
        var lastLink: LinkID = 0
        var lastWaiter: UInt32 = 0
        var links: [LinkID: Link] = [:]
        /// Links whose handshake is not done.
        var handshaking: [LinkID: Link] = [:]
        var peers: PeerTable
        var listeners: [UInt32: Listener] = [:]
        var portsByName: [String: UInt32] = [:]
        /// The ports of those listeners that one peer alone hears of.
        var scoped: [Way: Set<UInt32>] = [:]
        var registry = ServiceRegistry()
        var penalties = OfferPenalties()
        var discovery = Discovery()
        var ownAddresses = OwnAddresses()
        /// For each link that ops were forwarded to or from: the links at the other end of that.
        var talkers: [LinkID: Set<LinkID>] = [:]
        /// Dials that wait for an offer, by the name.
        var waiters: [String: [OfferWaiter]] = [:]
        var isClosed = false
    }

    struct OfferWaiter {
        var waiter: Waiter
        /// The wait is over when the way to this peer is gone, if any.
        var way: Way?
    }

    /// A host, and the link that leads to it.
    struct Way: Hashable, Sendable {
        var host: HostID
        var link: LinkID
    }

    init(configuration: NodeConfiguration, log: Logger, group: any EventLoopGroup, surroundings: Surroundings) {
        self.configuration = configuration
        self.log = log
        self.group = group
        timers = group.next()
        deadlines = Deadlines(on: timers)
        executor = LoopExecutor(group, home: timers)
        self.surroundings = surroundings
        watchers = ListingWatchers(deadlines, surroundings, on: timers)
        buffered = BufferBudget(limit: configuration.maximumBuffered, parent: nil)
        cookies = PushCookies(random: surroundings.random)
        id = HostID(rawValue: max(1, surroundings.random() >> 1))
        shared = NIOLockedValueBox(Shared(peers: PeerTable(localHost: id)))
    }

    func address(port: UInt32) -> Address { Address(host: id, port: port) }

    /// The next port that is handed out.
    func takePort() -> UInt32 {
        shared.withLockedValue { $0.takePort() }
    }

    /// The present on the clock of ``timers``, in nanoseconds.
    var now: UInt64 { timers.now.uptimeNanoseconds }

    // MARK: - Links

    func takeLinkID() -> LinkID {
        shared.withLockedValue { shared in
            shared.lastLink += 1
            return shared.lastLink
        }
    }

    /// A connection is there, its handshake is not. `false` when there are too many or the node is closed.
    func linkBegins(_ link: Link) -> Bool {
        let isWelcome = shared.withLockedValue { shared in
            guard !shared.isClosed, shared.links.count + shared.handshaking.count < configuration.maximumLinks else {
                return false
            }
            shared.handshaking[link.id] = link
            return true
        }
        if !isWelcome { counters.refusedLinks.add(1, ordering: .relaxed) }
        return isWelcome
    }

    /// The link's handshake is done: it gets all services that are for everybody. `nil` when the node is closed.
    func linkUp(_ link: Link, peer: HostID, seenAt address: String) -> PeerTable.LinkUpResult? {
        let result = shared.withLockedValue { shared -> PeerTable.LinkUpResult? in
            guard !shared.isClosed else { return nil }
            shared.handshaking[link.id] = nil
            shared.links[link.id] = link
            let result = shared.peers.linkUp(link.id, to: peer, isDialled: link.isDialled)
            shared.discovery.forget(peer)
            // A name would make others look up whatever this peer likes.
            if let ip = HostPort(address)?.host, (try? SocketAddress(ipAddress: ip, port: 0)) != nil {
                shared.ownAddresses.seen(at: ip, by: link.id)
            }
            announceAll(to: link, peer: peer, &shared)
            if case .retire(let other) = result { shared.links[other]?.retire() }
            return result
        }
        guard result != nil else { return nil }
        watchers.changed()
        log.debug("link up", metadata: ["peer": "\(peer)", "link": "\(link.id)"])
        return result
    }

    /// The link is gone, with what came over it, and what was bound or awaited for it alone.
    ///
    /// - Returns: the host it led to, where it was the last link there.
    @discardableResult
    func linkDown(_ link: Link, reason: AstraNetError) -> HostID? {
        let gone = shared.withLockedValue { $0.registry.leaves(link.id) }
        let unheard = withdraw(gone, from: link)
        let (lost, orphans, waiters) = shared.withLockedValue { shared in
            shared.links[link.id] = nil
            shared.handshaking[link.id] = nil
            shared.registry.hasLeft(link.id)
            let down = shared.peers.linkDown(link.id)
            shared.ownAddresses.forget(link.id)
            let lost = down.flatMap { $0.isLast ? $0.host : nil }
            if let id = down?.reinstated { shared.links[id]?.reinstate() }
            if let down { resetTalkers(with: down.host, over: link.id, &shared) }
            if let lost { rediscover(lost, &shared) }
            let orphans = shared.scoped.filter { $0.key.link == link.id }.flatMap(\.value)
            return (
                lost, orphans.compactMap { shared.listeners[$0] },
                shared.takeWaiters { $0.link == link.id }
            )
        }
        watchers.changed()
        unfollow(unheard)
        for listener in orphans { listener.withdraw() }
        for waiter in waiters { waiter.resume(.gone) }
        log.debug("link down", metadata: ["link": "\(link.id)", "reason": "\(reason)"])
        return lost
    }

    static var wayGone: AstraNetError {
        AstraNetError(.linkLost, "the way to the host from which the name was learnt is gone")
    }

    var isClosed: Bool { shared.withLockedValue { $0.isClosed } }

    var linkCount: Int { shared.withLockedValue { $0.links.count } }

    /// Marks the node closed; returns the links and listeners that must be closed, and fails all who wait for offers.
    func close() -> (links: [Link], listeners: [Listener]) {
        let (links, listeners, waiters) = shared.withLockedValue { shared in
            shared.isClosed = true
            defer { shared.waiters = [:] }
            let links = Array(shared.links.values) + Array(shared.handshaking.values)
            return (links, Array(shared.listeners.values), shared.waiters.values.flatMap { $0.map(\.waiter) })
        }
        for waiter in waiters { waiter.resume(.gone) }
        watchers.finish()
        stopJoining()
        return (links, listeners)
    }
}

extension NodeCore.Shared {
    init(peers: PeerTable) {
        self.peers = peers
    }

    mutating func takePort() -> UInt32 {
        repeat {
            lastPort = lastPort == .max ? Address.firstDynamicPort : lastPort + 1
        } while listeners[lastPort] != nil
        return lastPort
    }

    /// Takes out the dials that wait for something from somewhere that is gone.
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
