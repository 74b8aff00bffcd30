internal import Logging
internal import NIOConcurrencyHelpers
package import NIOCore
internal import Synchronization

/// The parts of a node, and the events of links that concern several of them.
///
/// Each part owns its state and has its own lock. The core itself keeps only the node's own addresses. It holds no lock
/// while it calls a part.
package final class NodeCore: Sendable {
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
    package let directory: MeshDirectory
    package let joiner = Joiner()
    let warnings: ConnectionWarnings
    private let ownAddresses = NIOLockedValueBox(OwnAddresses())
    private let accessRules = NIOLockedValueBox<AccessRules?>(nil)

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
        warnings = ConnectionWarnings(log: log, timers: timers, maximumLinks: configuration.maximumLinks)
        id = HostID(rawValue: max(1, surroundings.random() >> 1))
        directory = MeshDirectory(
            localHost: id, configuration: configuration, surroundings: surroundings, deadlines: deadlines,
            timers: timers)
    }

    func address(port: UInt32) -> Address { Address(host: id, port: port) }

    /// Current time on the clock of ``timers``, in nanoseconds.
    var now: UInt64 { timers.now.uptimeNanoseconds }

    // MARK: - New links

    /// Resolves an address to at least one socket address.
    func lookUp(_ address: NodeAddress) -> EventLoopFuture<[SocketAddress]> {
        switch address {
        case .tcp(let host, let port):
            surroundings.network.addresses(of: host, port: port, on: timers)
        case .unix(let path):
            timers.makeCompletedFuture { [try SocketAddress(unixDomainSocketPath: path)] }
        }
    }

    /// Connects to an address. The future succeeds when the handshake is complete.
    ///
    /// - Parameters:
    ///   - security: secures the connection; `nil` for none.
    ///   - timeout: the timeout for the connection, and for the handshake after it.
    func open(
        _ address: SocketAddress, security: (any LinkSecurity)? = nil, timeout: TimeAmount
    ) -> EventLoopFuture<LinkUp> {
        let eventLoop = group.next()
        let up = eventLoop.makePromise(of: LinkUp.self)
        let connected = surroundings.network.connect(to: address, timeout: timeout, on: eventLoop) { channel in
            self.makeLink(of: channel, origin: .dialled, security: security, up: up)
        }
        connected.whenComplete { result in
            switch result {
            case .failure(let error): up.fail(error)
            case .success(let channel):
                let timer = eventLoop.scheduleTask(in: timeout) {
                    up.fail(
                        HandshakeFailure.late(within: UInt64(clamping: timeout.nanoseconds), isDialled: true))
                    channel.close(promise: nil)
                }
                up.futureResult.whenComplete { _ in timer.cancel() }
            }
        }
        return up.futureResult
    }

    /// Creates a link for a new connection and adds its handler to the channel.
    package func makeLink(
        of channel: any Channel, origin: LinkOrigin, memory: SharedMemory? = nil,
        security: (any LinkSecurity)? = nil, up: EventLoopPromise<LinkUp>
    ) -> EventLoopFuture<Void> {
        channel.eventLoop.makeCompletedFuture {
            let link = Link(
                id: self.directory.takeLinkID(), node: self, channel: channel, origin: origin, memory: memory,
                security: security)
            do {
                try security?.addHandlers(to: channel)
                try channel.pipeline.syncOperations.addHandler(LinkHandler(link: link, up: up))
            } catch {
                // The channel is already closed, and without a handler no other code fails the promise.
                up.fail(error)
                throw error
            }
        }
    }

    /// Registers a connected link before its handshake. Returns `false` if the node has too many links or is closed.
    func linkBegins(_ link: Link) -> Bool {
        let admission = directory.linkBegins(link)
        guard admission != .accepted else { return true }
        counters.refusedLinks.add(1, ordering: .relaxed)
        // The code that dialled a connection reports its failure.
        if admission == .full, !link.isDialled {
            warnings.refused(from: link.peerSocketAddress.withLockedValue { $0 })
        }
        return false
    }

    /// Registers a link after its handshake and announces all public services to the peer.
    ///
    /// - Parameter address: this node's address as the peer sees it (`RAddr` of the HANDSHAKE).
    /// - Throws: ``AstraNetError`` with code `closed` if the node is closed, or `insecure` if the host id of the peer
    ///   belongs to another identity.
    func linkUp(_ link: Link, peer: HostID, seenAt address: String) throws(AstraNetError) -> PeerTable.LinkUpResult {
        let result: PeerTable.LinkUpResult
        do throws(AstraNetError) {
            result = try directory.linkUp(link, peer: peer)
        } catch {
            if error.code == .insecure {
                counters.forgedHosts.add(1, ordering: .relaxed)
                warnings.forbidden(.forgedHost, "\(peer)", by: link.identity, log)
            }
            throw error
        }
        // Only an IP address is accepted. Other nodes would have to resolve a host name that the peer chose.
        if let ip = HostPort(address)?.host, (try? SocketAddress(ipAddress: ip, port: 0)) != nil {
            ownAddresses.withLockedValue { $0.seen(at: ip, by: link.id) }
        }
        watchers.changed()
        log.debug("link up", metadata: ["peer": "\(peer)", "link": "\(link.id)"])
        return result
    }

    // MARK: - Lost links and routes

    /// Removes a link, its offers, the listeners that were announced only over it, and the waits that depend on it.
    ///
    /// - Returns: the host at the other end if this was the last link to it; otherwise `nil`.
    @discardableResult
    func linkDown(_ link: Link, reason: AstraNetError) -> HostID? {
        let (host, lost) = directory.linkDown(link)
        ownAddresses.withLockedValue { $0.forget(link.id) }
        end(lost)
        log.debug("link down", metadata: ["link": "\(link.id)", "reason": "\(reason.message)"])
        return host
    }

    /// Handles RST: a router has lost its link to `host`. Removes the private offers of that host and ends what depends
    /// on it.
    func routeLost(to host: HostID, over link: Link) {
        end(directory.routeLost(to: host, over: link))
    }

    /// Handles GOAWAY. Dials prefer other links from now on, and the address of the link is joined again.
    func peerGoesAway(_ link: Link) {
        guard !link.isGoingAway.exchange(true, ordering: .relaxed) else { return }
        directory.setGoingAway(link)
        if link.isDialled { joiner.peerGoesAway(link) }
    }

    private func end(_ lost: MeshDirectory.Lost) {
        watchers.changed()
        joiner.unfollow(lost.unknownHosts, for: self)
        for listener in lost.listeners { listener.withdraw() }
        for waiter in lost.waiters { waiter.resume(.gone) }
    }

    // MARK: - Services

    /// Binds a name to a fresh port and announces it.
    ///
    /// - Throws: ``AstraNetError`` with code `limitReached` (wrong length of the name), `serviceInUse` or `closed`.
    func bind(
        _ name: String, visibility: Listener.Visibility, answersSoon: Bool,
        onStream: (@Sendable (MeshStream) -> Acceptance)? = nil
    ) throws(AstraNetError) -> Listener {
        let fullName = configuration.fullName(name)
        guard !name.isEmpty, fullName.utf8.count <= configuration.maximumServiceName else {
            throw AstraNetError(
                .limitReached, "a service name has 1 to \(configuration.maximumServiceName) bytes: '\(name.prefix(64))'"
            )
        }
        return try directory.bind(fullName) { port in
            Listener(
                name: fullName, address: address(port: port), visibility: visibility, answersSoon: answersSoon,
                node: self, onStream: onStream)
        }
    }

    /// Passes a stream to the listener of its port.
    func accept(_ stream: MeshStream) -> Acceptance {
        directory.listener(on: stream.localPort)?.accept(stream)
            ?? .refused("no listener at \(stream.localAddress)")
    }

    enum OfferResult: Hashable {
        case done
        /// The link has announced too many offers.
        case limitReached
        /// The access rules do not allow the offer.
        case forbidden
    }

    /// Handles SERVICE: adds an offer.
    ///
    /// - Parameters:
    ///   - isPrivate: whether the offer was sent only to this node, through a router.
    ///   - log: the log of the link.
    func add(_ offer: ServiceOffer, from link: Link, isPrivate: Bool, _ log: Logger) -> OfferResult {
        let isPublic = mayAnnounce(offer, link)
        guard isPublic || isSourceName(offer, link) else {
            counters.forbiddenServices.add(1, ordering: .relaxed)
            warnings.forbidden(.service, offer.name, by: link.identity, log)
            return .forbidden
        }
        let result = directory.add(offer, from: link, isPrivate: isPrivate || !isPublic)
        if case .added = result { watchers.changed() }
        guard result == .limitReached else { return .done }
        counters.refusedServices.add(1, ordering: .relaxed)
        return .limitReached
    }

    // MARK: - Access

    /// The access rules; `nil` if everything is allowed.
    var access: AccessRules? {
        get { accessRules.withLockedValue { $0 } }
        set {
            accessRules.withLockedValue { $0 = newValue }
            directory.forgetOwners()
            for link in directory.allLinks { link.applyRules() }
        }
    }

    private func mayAnnounce(_ offer: ServiceOffer, _ link: Link) -> Bool {
        let identity = link.identity
        // Without rules a mesh of 250,000 services needs no text for each of them.
        guard identity.rules != nil else { return true }
        let suffix = configuration.environmentSuffix
        let name = offer.name.hasSuffix(suffix) ? String(offer.name.dropLast(suffix.count)) : offer.name
        return identity.mayAnnounce(name)
    }

    /// Whether the offer is that of a source of a request of this node (`docs/protocol.md` §5).
    private func isSourceName(_ offer: ServiceOffer, _ link: Link) -> Bool {
        link.reservedStreamSlots > 0
            && SourceName.matches(offer.name, environmentSuffix: configuration.environmentSuffix)
    }

    /// Withdraws the offers of a link that the access rules do not allow.
    ///
    /// - Returns: these offers, and whether each was sent to this node only.
    func withdrawForbidden(of link: Link) -> [(ServiceOffer, isPrivate: Bool)] {
        let forbidden = directory.offers(of: link).filter {
            !mayAnnounce($0.offer, link) && !isSourceName($0.offer, link)
        }
        for (offer, _) in forbidden { remove(offer, from: link) }
        return forbidden
    }

    /// Whether a router may forward an announcement of `name` to one host: a name that the peer may announce, or that of
    /// a source.
    func mayForward(announcementOf name: @autoclosure () -> String, from link: Link) -> Bool {
        guard link.identity.rules != nil else { return true }
        let name = name()
        let offer = ServiceOffer(name: name, address: Address(host: .peer, port: 0), isRelayed: false)
        return mayAnnounce(offer, link) || SourceName.matches(inAnyEnvironment: name)
    }

    /// Counts and logs an op with another host as its source.
    func forgedOp(of host: HostID, from link: Link, _ log: Logger) {
        counters.forgedOps.add(1, ordering: .relaxed)
        warnings.forbidden(.forgedOp, "\(host)", by: link.identity, log)
    }

    /// Handles NO_SERVICE: removes an offer.
    func remove(_ offer: ServiceOffer, from link: Link) {
        let unknownHosts = directory.remove(offer, from: link)
        watchers.changed()
        joiner.unfollow(unknownHosts, for: self)
    }

    // MARK: - Direct paths

    /// Records that this node accepts links at `ip` and `port`.
    ///
    /// - Parameter isSecure: whether links there need TLS.
    func listens(at ip: String, port: Int, isSecure: Bool) {
        ownAddresses.withLockedValue { $0.listens(at: ip, port: port, isSecure: isSecure) }
    }

    /// Answers DISCOVER with a FOLLOW for each address of this node that the asking host can use.
    func answerDiscover(from host: HostID, over link: Link, understandsTLS: Bool) {
        guard configuration.role.announces else { return }
        let addresses = ownAddresses.withLockedValue { $0.all(isSecure: understandsTLS) }
        link.sendControl { ops in
            for address in addresses {
                ops.writeOp(
                    OpHeader(.follow, to: Address(host: host, port: 0), from: self.address(port: 0)), text: address)
            }
        }
    }

    /// Handles FOLLOW: `host` accepts links at the address `text`. Ignored if this node did not ask for it, or has a
    /// link to the host.
    ///
    /// A direct link is as secure as the link to the router: a node that reaches its router over TLS uses only addresses
    /// with TLS, and the others only those without.
    func followed(_ host: HostID, to text: String, over link: Link) {
        var text = text
        var security: (any LinkSecurity)?
        switch (link.directLinks, text.hasPrefix(SecureAddress.prefix)) {
        case (.plain, false): break
        case (.secured(let direct), true):
            security = direct
            text.removeFirst(SecureAddress.prefix.count)
        case (.plain, true), (.secured, false), (.none, _): return
        }
        guard let place = HostPort(text), place.port > 0, configuration.role.joinsOthers, host != id,
            directory.looksForPath(to: host)
        else { return }
        let address: SocketAddress
        do {
            address = try SocketAddress(ipAddress: place.host, port: place.port)
        } catch {
            // Go nodes send IP addresses. With a host name, a peer could choose what this node resolves.
            log.debug("FOLLOW ignored: not an IP address", metadata: ["address": "\(text)", "peer": "\(host)"])
            return
        }
        joiner.follow(host, to: address, security: security, over: link)
    }

    // MARK: - End

    /// Marks the node as closed, stops joining, and ends all waits for offers.
    ///
    /// - Returns: the links and listeners that the caller must close.
    func close() -> (links: [Link], listeners: [Listener]) {
        let (links, listeners, waiters) = directory.close()
        for waiter in waiters { waiter.resume(.gone) }
        watchers.finish()
        joiner.stop()
        return (links, listeners)
    }
}
