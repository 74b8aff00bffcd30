internal import Logging
package import NIOConcurrencyHelpers
internal import NIOCore

/// The state that all links of a node share: links, bound services, offers of other nodes, and waits for offers.
package final class NodeCore: Sendable {
    typealias LinkID = ServiceRegistry.LinkID

    let id: HostID
    let configuration: NodeConfiguration
    let log: Logger
    let surroundings: NodeDependencies
    let group: any EventLoopGroup
    /// Event loop for joins and for deadlines that belong to no link.
    let timers: any EventLoop
    let deadlines: Deadlines
    /// Executor for tasks that wait on streams.
    let executor: LoopExecutor
    package let buffered: BufferBudget
    let counters = NodeCounters()
    package let cookies: PushCookies
    package let watchers: ListingWatchers
    package let shared: NIOLockedValueBox<Shared>
    package let joining = NIOLockedValueBox(Joining())
    let warnings = NIOLockedValueBox(WarningRateLimit())

    /// State under one lock, so that NO_SERVICE never overtakes the SERVICE before it.
    package struct Shared {
        package var links: LinkTable
        package var bound = BoundNames()
        package var offers = RemoteOffers()
        var isClosed = false
    }

    /// A path to a host: the host and the link over which it is reached.
    struct HostLink: Hashable, Sendable {
        var host: HostID
        var link: LinkID
    }

    init(configuration: NodeConfiguration, log: Logger, group: any EventLoopGroup, surroundings: NodeDependencies) {
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

    /// Current time on the clock of ``timers``, in nanoseconds.
    package var now: UInt64 { timers.now.uptimeNanoseconds }

    // MARK: - Links

    func takeLinkID() -> LinkID {
        shared.withLockedValue { $0.links.takeID() }
    }

    /// Registers a connected link before its handshake. Returns `false` if the node has too many links or is closed.
    func linkBegins(_ link: Link) -> Bool {
        let (isAccepted, isFull) = shared.withLockedValue { shared in
            let isFull = shared.links.count >= configuration.maximumLinks
            guard !shared.isClosed, !isFull else { return (false, isFull) }
            shared.links.handshaking[link.id] = link
            return (true, false)
        }
        if !isAccepted { counters.refusedLinks.add(1, ordering: .relaxed) }
        // The code that dialled a connection reports its failure.
        if isFull, !link.isDialled { warnRefused(from: link.peerSocketAddress.withLockedValue { $0 }) }
        return isAccepted
    }

    /// Registers a link after its handshake and announces all public services to the peer. Returns `nil` if the node is
    /// closed.
    ///
    /// - Parameter address: this node's address as the peer sees it (`RAddr` of the HANDSHAKE).
    func linkUp(_ link: Link, peer: HostID, seenAt address: String) -> PeerTable.LinkUpResult? {
        let result = shared.withLockedValue { shared -> PeerTable.LinkUpResult? in
            guard !shared.isClosed else { return nil }
            shared.links.handshaking[link.id] = nil
            shared.links.up[link.id] = link
            let result = shared.links.peers.linkUp(link.id, to: peer, isDialled: link.isDialled)
            shared.offers.discovery.forget(peer)
            // Only an IP address is accepted. Other nodes would have to resolve a host name that the peer chose.
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

    /// Removes a link, its offers, the listeners that were announced only over it, and the waits that depend on it.
    ///
    /// - Returns: the host at the other end if this was the last link to it; otherwise `nil`.
    @discardableResult
    func linkDown(_ link: Link, reason: AstraNetError) -> HostID? {
        let gone = shared.withLockedValue { $0.offers.registry.leaves(link.id) }
        let unknownHosts = withdraw(gone, from: link)
        let (lost, orphans, waiters) = shared.withLockedValue { shared in
            shared.links.up[link.id] = nil
            shared.links.handshaking[link.id] = nil
            shared.links.silent.remove(link.id)
            shared.offers.registry.hasLeft(link.id)
            let down = shared.links.peers.linkDown(link.id)
            shared.offers.ownAddresses.forget(link.id)
            let lost = down.flatMap { $0.isLast ? $0.host : nil }
            if let id = down?.reinstated { shared.links.up[id]?.reinstate() }
            if let down { resetForwardedStreams(with: down.host, over: link.id, &shared) }
            if let lost { rediscover(lost, &shared) }
            return (
                lost, shared.bound.listeners(scopedTo: { $0.link == link.id }),
                shared.offers.takeWaiters { $0.link == link.id }
            )
        }
        watchers.changed()
        unfollow(unknownHosts)
        for listener in orphans { listener.withdraw() }
        for waiter in waiters { waiter.resume(.gone) }
        log.debug("link down", metadata: ["link": "\(link.id)", "reason": "\(reason.message)"])
        return lost
    }

    /// Records whether the peer of a link is silent.
    func setSilent(_ link: Link, _ isSilent: Bool) {
        link.isSilent.store(isSilent, ordering: .relaxed)
        shared.withLockedValue { shared in
            if !isSilent {
                shared.links.silent.remove(link.id)
            } else if shared.links.up[link.id] != nil {
                shared.links.silent.insert(link.id)
            }
        }
    }

    static var hostLinkLost: AstraNetError {
        AstraNetError(.linkLost, "the connection to the host that sent the name was lost")
    }

    var isClosed: Bool { shared.withLockedValue { $0.isClosed } }

    var linkCount: Int { shared.withLockedValue { $0.links.up.count } }

    /// Marks the node as closed, stops joining, and ends all waits for offers.
    ///
    /// - Returns: the links and listeners that the caller must close.
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
