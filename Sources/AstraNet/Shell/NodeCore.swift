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

    /// State under one lock, so that a SERVICE is never overtaken by its NO_SERVICE.
    struct Shared {
        var links: LinkTable
        var bound = BoundNames()
        var offers = RemoteOffers()
        var isClosed = false
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
        shared = NIOLockedValueBox(Shared(links: LinkTable(peers: PeerTable(localHost: id))))
    }

    func address(port: UInt32) -> Address { Address(host: id, port: port) }

    /// The next port that is handed out.
    func takePort() -> UInt32 {
        shared.withLockedValue { $0.bound.takePort() }
    }

    /// The present on the clock of ``timers``, in nanoseconds.
    var now: UInt64 { timers.now.uptimeNanoseconds }

    // MARK: - Links

    func takeLinkID() -> LinkID {
        shared.withLockedValue { $0.links.takeID() }
    }

    /// A connection is there, its handshake is not. `false` when there are too many or the node is closed.
    func linkBegins(_ link: Link) -> Bool {
        let isWelcome = shared.withLockedValue { shared in
            guard !shared.isClosed, shared.links.count < configuration.maximumLinks else {
                return false
            }
            shared.links.handshaking[link.id] = link
            return true
        }
        if !isWelcome { counters.refusedLinks.add(1, ordering: .relaxed) }
        return isWelcome
    }

    /// The link's handshake is done: it gets all services that are for everybody. `nil` when the node is closed.
    func linkUp(_ link: Link, peer: HostID, seenAt address: String) -> PeerTable.LinkUpResult? {
        let result = shared.withLockedValue { shared -> PeerTable.LinkUpResult? in
            guard !shared.isClosed else { return nil }
            shared.links.handshaking[link.id] = nil
            shared.links.up[link.id] = link
            let result = shared.links.peers.linkUp(link.id, to: peer, isDialled: link.isDialled)
            shared.offers.discovery.forget(peer)
            // A name would make others look up whatever this peer likes.
            if let ip = HostPort(address)?.host, (try? SocketAddress(ipAddress: ip, port: 0)) != nil {
                shared.offers.ownAddresses.seen(at: ip, by: link.id)
            }
            announceAll(to: link, peer: peer, &shared)
            if case .retire(let other) = result { shared.links.up[other]?.retire() }
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
        let gone = shared.withLockedValue { $0.offers.registry.leaves(link.id) }
        let unheard = withdraw(gone, from: link)
        let (lost, orphans, waiters) = shared.withLockedValue { shared in
            shared.links.up[link.id] = nil
            shared.links.handshaking[link.id] = nil
            shared.offers.registry.hasLeft(link.id)
            let down = shared.links.peers.linkDown(link.id)
            shared.offers.ownAddresses.forget(link.id)
            let lost = down.flatMap { $0.isLast ? $0.host : nil }
            if let id = down?.reinstated { shared.links.up[id]?.reinstate() }
            if let down { resetTalkers(with: down.host, over: link.id, &shared) }
            if let lost { rediscover(lost, &shared) }
            return (
                lost, shared.bound.listeners(scopedTo: { $0.link == link.id }),
                shared.offers.takeWaiters { $0.link == link.id }
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

    var linkCount: Int { shared.withLockedValue { $0.links.up.count } }

    /// Marks the node closed; returns the links and listeners that must be closed, and fails all who wait for offers.
    func close() -> (links: [Link], listeners: [Listener]) {
        let (links, listeners, waiters) = shared.withLockedValue { shared in
            shared.isClosed = true
            defer { shared.offers.waiters = [:] }
            return (
                shared.links.all, Array(shared.bound.listeners.values),
                shared.offers.waiters.values.flatMap { $0.map(\.waiter) }
            )
        }
        for waiter in waiters { waiter.resume(.gone) }
        watchers.finish()
        stopJoining()
        return (links, listeners)
    }
}
