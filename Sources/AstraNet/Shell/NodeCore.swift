internal import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore

/// The state that all links of a node share: the links, the bound services, the offers of other nodes, and the dials
/// that wait for an offer.
final class NodeCore: Sendable {
    typealias LinkID = ServiceRegistry.LinkID

    let id: HostID
    let configuration: NodeConfiguration
    let log: Logger
    let surroundings: Surroundings
    let group: any EventLoopGroup
    /// The event loop for deadlines and joins, which belong to no link.
    let timers: any EventLoop
    let deadlines: Deadlines
    /// The executor for tasks that wait for streams.
    let executor: LoopExecutor
    let buffered: BufferBudget
    let counters = NodeCounters()
    let cookies: PushCookies
    let watchers: ListingWatchers
    let shared: NIOLockedValueBox<Shared>
    let joining = NIOLockedValueBox(Joining())

    /// State under one lock. The lock keeps a NO_SERVICE from overtaking its SERVICE.
    struct Shared {
        var links: LinkTable
        var bound = BoundNames()
        var offers = RemoteOffers()
        var isClosed = false
    }

    /// A host and the link that leads to it.
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

    /// Returns the next free port.
    func takePort() -> UInt32 {
        shared.withLockedValue { $0.bound.takePort() }
    }

    /// The current time of the clock of ``timers``, in nanoseconds.
    var now: UInt64 { timers.now.uptimeNanoseconds }

    // MARK: - Links

    func takeLinkID() -> LinkID {
        shared.withLockedValue { $0.links.takeID() }
    }

    /// Registers a new connection whose handshake is still to come.
    ///
    /// - Returns: `false` if there are too many links or the node is closed.
    func linkBegins(_ link: Link) -> Bool {
        let isAccepted = shared.withLockedValue { shared in
            guard !shared.isClosed, shared.links.count < configuration.maximumLinks else {
                return false
            }
            shared.links.handshaking[link.id] = link
            return true
        }
        if !isAccepted { counters.refusedLinks.add(1, ordering: .relaxed) }
        return isAccepted
    }

    /// Registers a link whose handshake is complete. Announces all public services to it.
    ///
    /// - Returns: the result of the peer table; `nil` if the node is closed.
    func linkUp(_ link: Link, peer: HostID, seenAt address: String) -> PeerTable.LinkUpResult? {
        let result = shared.withLockedValue { shared -> PeerTable.LinkUpResult? in
            guard !shared.isClosed else { return nil }
            shared.links.handshaking[link.id] = nil
            shared.links.up[link.id] = link
            let result = shared.links.peers.linkUp(link.id, to: peer, isDialled: link.isDialled)
            shared.offers.discovery.forget(peer)
            // Only IP addresses count: other nodes would look a name up, so a peer could make them look up any name.
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

    /// Removes a closed link, the offers that it brought, and the listeners and dials that depend on it.
    ///
    /// - Returns: the host of the link if this was the last link to it.
    @discardableResult
    func linkDown(_ link: Link, reason: AstraNetError) -> HostID? {
        let gone = shared.withLockedValue { $0.offers.registry.leaves(link.id) }
        let hostsWithoutOffers = withdraw(gone, from: link)
        let (lost, listeners, waiters) = shared.withLockedValue { shared in
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
        unfollow(hostsWithoutOffers)
        for listener in listeners { listener.withdraw() }
        for waiter in waiters { waiter.resume(.gone) }
        log.debug("link down", metadata: ["link": "\(link.id)", "reason": "\(reason)"])
        return lost
    }

    static var wayGone: AstraNetError {
        AstraNetError(.linkLost, "the route to the host that sent the name is lost")
    }

    var isClosed: Bool { shared.withLockedValue { $0.isClosed } }

    var linkCount: Int { shared.withLockedValue { $0.links.up.count } }

    /// Marks the node as closed, and ends all waits for offers. Returns the links and listeners that the caller must
    /// close.
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
