internal import NIOConcurrencyHelpers
internal import NIOCore

/// The links of a node, the names that are bound on it, and the offers of other nodes.
///
/// They share one lock. Announcements are queued on the links under it, so that NO_SERVICE never overtakes the SERVICE
/// before it. No method resumes a task or calls a listener while it holds the lock. The only other locks that it takes
/// meanwhile are those of the links' queues.
package final class MeshDirectory: Sendable {
    typealias LinkID = ServiceRegistry.LinkID

    private struct State {
        var links: LinkTable
        var bound = BoundNames()
        var offers: RemoteOffers
        var isClosed = false
        /// Whether this node has sent GOAWAY.
        var isGoingAway = false

        /// Returns the result of a wait for an offer of `name`; `nil` while the wait continues.
        func waitResult(for name: String, from hostLink: HostLink?) -> Result<Void, AstraNetError>? {
            if isClosed { return .failure(AstraNetError(.closed, "the node is closed")) }
            if offers.hasOffer(of: name, over: hostLink.map(links.path(of:))) { return .success(()) }
            if let hostLink, links[hostLink.link] == nil { return .failure(MeshDirectory.hostLinkLost) }
            return nil
        }
    }

    private let configuration: NodeConfiguration
    private let surroundings: NodeDependencies
    private let deadlines: Deadlines
    private let timers: any EventLoop
    private let state: NIOLockedValueBox<State>

    init(
        localHost: HostID, configuration: NodeConfiguration, surroundings: NodeDependencies, deadlines: Deadlines,
        timers: any EventLoop
    ) {
        self.configuration = configuration
        self.surroundings = surroundings
        self.deadlines = deadlines
        self.timers = timers
        state = NIOLockedValueBox(
            State(
                links: LinkTable(localHost: localHost, role: configuration.role),
                offers: RemoteOffers(localHost: localHost, configuration: configuration)))
    }

    private var now: UInt64 { timers.now.uptimeNanoseconds }

    // MARK: - Links

    /// What depends on a lost path. The caller ends it without the lock.
    struct Lost {
        /// Hosts of which no relayed offer is left.
        var unknownHosts: [HostID]
        /// Listeners that were announced only over the path.
        var listeners: [Listener]
        /// Dials of names that were received over the path.
        var waiters: [Waiter]
    }

    enum Admission { case accepted, full, closed }

    func takeLinkID() -> LinkID {
        state.withLockedValue { $0.links.takeID() }
    }

    /// Adds a connected link before its handshake.
    func linkBegins(_ link: Link) -> Admission {
        state.withLockedValue { state in
            guard state.links.count < configuration.maximumLinks else { return .full }
            guard !state.isClosed else { return .closed }
            state.links.begin(link)
            return .accepted
        }
    }

    /// Adds a link after its handshake and announces to the peer all public services of this node, and on a router the
    /// direct offers of other peers.
    ///
    /// - Throws: ``AstraNetError`` with code `closed`, or `insecure` if the host id belongs to another identity.
    func linkUp(_ link: Link, peer: HostID) throws(AstraNetError) -> PeerTable.LinkUpResult {
        let result = state.withLockedValue { state -> Result<(PeerTable.LinkUpResult, [Link]), AstraNetError> in
            guard !state.isClosed else { return .failure(LinkMachine.nodeIsClosed) }
            let displaced: [Link]
            do throws(AstraNetError) {
                displaced = try state.links.claim(peer, by: link.identity)
            } catch {
                return .failure(error)
            }
            let result = state.links.linkUp(link, to: peer)
            state.offers.found(peer)
            announceAll(to: link, peer: peer, state)
            if case .retire(let other) = result { state.links[other]?.retire() }
            return .success((result, displaced))
        }
        let (linkUp, displaced) = try result.get()
        for other in displaced { other.close(Self.displaced) }
        return linkUp
    }

    private static var displaced: AstraNetError {
        AstraNetError(.insecure, "the host id belongs to a peer that the access rules name")
    }

    /// Forgets to whom host ids belong, because the access rules have changed. Each link records its own again.
    func forgetOwners() {
        state.withLockedValue { $0.links.forgetOwners() }
    }

    /// Records that the host id of a link belongs to its peer.
    func recordOwner(of link: Link) {
        state.withLockedValue { $0.links.recordOwner(of: link) }
    }

    private func announceAll(to link: Link, peer: HostID, _ state: State) {
        guard configuration.role.announces else { return }
        let own = state.bound.publicListeners
        let others = configuration.role == .router ? state.offers.directOffers(except: peer) : []
        guard !own.isEmpty || !others.isEmpty else { return }
        link.announce(.service, all: own.lazy.map { ($0.name, $0.address) })
        link.announce(.service, all: others.lazy.map { ($0.name, $0.address) })
    }

    /// Removes a link and its offers.
    ///
    /// - Returns: the host at the other end if this was the last link to it, otherwise `nil`; and what depended on the
    ///   link.
    func linkDown(_ link: Link) -> (host: HostID?, Lost) {
        let unknownHosts = withdraw(state.withLockedValue { $0.offers.leaves(link) }, from: link)
        return state.withLockedValue { state in
            state.offers.hasLeft(link)
            let host = state.links.linkDown(link)
            if let host { state.offers.rediscover(host, state.links, now: now) }
            return (
                host,
                Lost(
                    unknownHosts: unknownHosts, listeners: state.bound.listeners(scopedTo: { $0.link == link.id }),
                    waiters: state.offers.takeWaiters { $0.link == link.id })
            )
        }
    }

    /// Approximate number of announcements that are made while the lock is held. They take less than 1 ms.
    private static let withdrawalBatchSize = 1_024

    /// Withdraws the offers of a lost link in batches.
    ///
    /// The withdrawal of 250,000 services takes tenths of a second. In one batch it would block all other work of the
    /// node.
    ///
    /// - Returns: the hosts of which no relayed offer is left.
    private func withdraw(_ gone: ServiceRegistry.Gone, from link: Link) -> [HostID] {
        let receivers = configuration.role == .router ? linkCount : 0
        var unknownHosts: [HostID] = []
        gone.inPieces(of: max(1, Self.withdrawalBatchSize / (1 + receivers))) { offers in
            unknownHosts += state.withLockedValue { $0.offers.drop(offers, from: link, $0.links) }
        }
        return unknownHosts
    }

    /// Handles RST: a router has lost its link to `host`. Removes the private offers of that host.
    func routeLost(to host: HostID, over link: Link) -> Lost {
        state.withLockedValue { state in
            let hostLink = HostLink(host: host, link: link.id)
            return Lost(
                unknownHosts: state.offers.remove(privateTo: host, over: link, state.links),
                listeners: state.bound.listeners(scopedTo: { $0 == hostLink }),
                waiters: state.offers.takeWaiters { $0 == hostLink })
        }
    }

    /// Records whether the peer of a link is silent.
    func setSilent(_ link: Link, _ isSilent: Bool) {
        link.isSilent.store(isSilent, ordering: .relaxed)
        state.withLockedValue { $0.links.setSilent(link, isSilent) }
    }

    /// Records that the peer of a link has sent GOAWAY.
    func setGoingAway(_ link: Link) {
        state.withLockedValue { state in
            if state.links[link.id] != nil { state.offers.setGoingAway(link) }
        }
    }

    /// Returns the link to which ops from `link` for `host` are forwarded.
    ///
    /// It is `nil` if this node is not a router or has no link to `host`. There is at most one router between two
    /// nodes.
    ///
    /// - Parameter hasStreams: whether the ops belong to streams, which must end when one of the two links is lost.
    func route(from link: Link, to host: HostID, hasStreams: Bool) -> Link? {
        guard configuration.role == .router else { return nil }
        return state.withLockedValue { $0.links.route(from: link, to: host, hasStreams: hasStreams) }
    }

    func isLinked(to host: HostID) -> Bool {
        state.withLockedValue { $0.links.peers.isLinked(to: host) }
    }

    /// Returns up to `count` links to `host` other than `link`.
    func links(to host: HostID, except link: Link, atMost count: Int) -> [Link] {
        state.withLockedValue { $0.links.links(to: host, except: link, atMost: count) }
    }

    /// Returns all links to `host`.
    package func links(to host: HostID) -> [Link] { state.withLockedValue { $0.links.links(to: host) } }

    /// Returns the link with this ID; `nil` if it has not completed the handshake or is lost.
    func link(_ id: LinkID) -> Link? { state.withLockedValue { $0.links[id] } }

    /// The links that have completed the handshake.
    package var links: [Link] { state.withLockedValue { $0.links.allUp } }

    /// All links, including those that have not completed the handshake.
    var allLinks: [Link] { state.withLockedValue { $0.links.all } }

    var linkCount: Int { state.withLockedValue { $0.links.upCount } }

    /// Number of links whose peer is silent.
    package var silentLinkCount: Int { state.withLockedValue { $0.links.silentCount } }

    // MARK: - Names of this node

    /// Returns the next free port.
    func takePort() -> UInt32 {
        state.withLockedValue { $0.bound.takePort() }
    }

    /// Binds a name to a fresh port and announces it.
    ///
    /// - Parameter makeListener: makes the listener of the name for the port.
    /// - Throws: ``AstraNetError`` with code `serviceInUse` or `closed`.
    func bind(_ fullName: String, _ makeListener: (UInt32) -> Listener) throws(AstraNetError) -> Listener {
        let result = state.withLockedValue { state -> Result<Listener, AstraNetError> in
            guard !state.isClosed else { return .failure(AstraNetError(.closed, "the node is closed")) }
            guard !state.bound.contains(fullName) else {
                return .failure(AstraNetError(.serviceInUse, "'\(fullName)' is bound already"))
            }
            let listener = makeListener(state.bound.takePort())
            state.bound.add(listener)
            state.links.announce(.service, of: listener)
            return .success(listener)
        }
        return try result.get()
    }

    /// Unbinds a listener and withdraws its name.
    func unbind(_ listener: Listener) {
        state.withLockedValue { state in
            if state.bound.remove(listener) { state.links.announce(.noService, of: listener) }
        }
    }

    /// Returns the listener of a port.
    func listener(on port: UInt32) -> Listener? { state.withLockedValue { $0.bound.listener(on: port) } }

    /// Returns the listener for a DIAL of `port` that `remote` sent over `link`; `nil` if there is none for this
    /// dialer.
    func listener(on port: UInt32, for remote: HostID, over link: Link) -> Listener? {
        guard let listener = listener(on: port) else { return nil }
        guard let hostLink = listener.visibility.hostLink else { return listener }
        // Only the host to which a name was announced may dial it. Other hosts could guess its port. The host may use
        // another direct link. A DIAL that a router forwards must come over the announcing link, because a router may
        // forward a forged source.
        let isAllowed = hostLink.host == remote && (hostLink.link == link.id || link.peer?.host == remote)
        return isAllowed ? listener : nil
    }

    /// Returns whether names are bound that were announced over `link` to one host only: sources that the client has
    /// not dialled.
    func hasScopedNames(on link: Link) -> Bool {
        state.withLockedValue { $0.bound.hasScopedNames(on: link.id) }
    }

    /// The full names that are bound on this node.
    package var boundNames: Set<String> { state.withLockedValue { $0.bound.names } }

    // MARK: - Offers of other nodes

    /// Handles SERVICE: adds an offer.
    ///
    /// - Parameter isPrivate: whether the offer was sent only to this node, through a router.
    func add(_ offer: ServiceOffer, from link: Link, isPrivate: Bool) -> ServiceRegistry.AddResult {
        let (result, waiters) = state.withLockedValue { state in
            state.offers.add(offer, from: link, isPrivate: isPrivate, state.links, now: now)
        }
        for waiting in waiters { waiting.waiter.resume() }
        return result
    }

    /// Handles NO_SERVICE: removes an offer.
    ///
    /// - Returns: the hosts of which no relayed offer is left.
    func remove(_ offer: ServiceOffer, from link: Link) -> [HostID] {
        state.withLockedValue { $0.offers.remove(offer, from: link, $0.links) }
    }

    /// Returns the offers of a link, and whether each was sent to this node only.
    func offers(of link: Link) -> [(offer: ServiceOffer, isPrivate: Bool)] {
        state.withLockedValue { $0.offers.offers(of: link.id) }
    }

    /// Returns whether a node offers `name` now.
    ///
    /// - Parameter hostLink: the only path that counts; `nil` for any.
    func hasOffer(of name: String, from hostLink: HostLink?) -> Bool {
        state.withLockedValue { $0.offers.hasOffer(of: name, over: hostLink.map($0.links.path(of:))) }
    }

    /// Returns whether `name` is offered at another address than those of `failed`.
    ///
    /// - Parameter hostLink: the only path that counts; `nil` for any.
    func hasOffer(of name: String, from hostLink: HostLink?, except failed: Set<Address>) -> Bool {
        state.withLockedValue {
            $0.offers.hasOffer(of: name, over: hostLink.map($0.links.path(of:)), except: failed)
        }
    }

    /// Returns whether a host that is not silent offers the service at `address` too.
    func hasBetterOffer(than address: Address) -> Bool {
        state.withLockedValue { $0.offers.hasBetterOffer(than: address, $0.links) }
    }

    /// Picks an offer of `name` without waiting.
    ///
    /// - Parameters:
    ///   - hostLink: the path over which the name was received, whose offers alone may be picked; `nil` for any.
    ///   - bucket: the bucket that selects the offer; `nil` for a random one.
    ///   - refused: the addresses that have already refused this dial. They are not picked.
    /// - Returns: the offer with its link, and whether no other offer remains to be tried; `nil` if there is no offer.
    /// - Throws: ``AstraNetError`` with code `closed`.
    func pickOffer(
        of name: String, from hostLink: HostLink?, bucket: String?, except refused: Set<Address>
    ) throws(AstraNetError) -> RemoteOffers.Pick? {
        let draw = surroundings.random()
        let now = now
        let result = state.withLockedValue { state -> Result<RemoteOffers.Pick?, AstraNetError> in
            guard !state.isClosed else { return .failure(AstraNetError(.closed, "the node is closed")) }
            return .success(
                state.offers.pick(
                    name, over: hostLink.map(state.links.path(of:)), bucket: bucket, draw: draw, except: refused,
                    state.links, now: now))
        }
        return try result.get()
    }

    /// Records a failed dial of `address`, so that later dials avoid the address.
    func penalize(_ address: Address) {
        state.withLockedValue { $0.offers.penalize(address, now: now) }
    }

    /// Records a successful dial of `address`.
    func forgive(_ address: Address) {
        state.withLockedValue { $0.offers.forgive(address) }
    }

    /// Returns whether dials avoid `address` because of a failed dial.
    package func isPenalized(_ address: Address) -> Bool {
        state.withLockedValue { $0.offers.isPenalized(address, now: now) }
    }

    /// Repeats DISCOVER for hosts that have no direct link yet.
    func discoverAgain() {
        guard configuration.role.joinsOthers else { return }
        state.withLockedValue { $0.offers.discoverAgain($0.links, now: now) }
    }

    /// Returns whether this node sent DISCOVER to `host` and has no link to it.
    func looksForPath(to host: HostID) -> Bool {
        state.withLockedValue { $0.offers.hasAsked(host) && !$0.links.peers.isLinked(to: host) }
    }

    /// A consistent copy of the links, the offers, and the hosts of the links.
    var listing: (links: [Link], routes: [ServiceRegistry.Route], peers: PeerTable) {
        state.withLockedValue { ($0.links.allUp, $0.offers.routes, $0.links.peers) }
    }

    /// All offers in no order. An offer occurs once for each link that brought it.
    var routes: [ServiceRegistry.Route] { state.withLockedValue { $0.offers.routes } }

    /// Number of offers. An offer counts once for each link that brought it.
    var offerCount: Int {
        state.withLockedValue { state in
            state.links.allUp.reduce(0) { $0 + state.offers.count(on: $1.id) }
        }
    }

    // MARK: - Waits for offers

    static var hostLinkLost: AstraNetError {
        AstraNetError(.linkLost, "the connection to the host that sent the name was lost")
    }

    /// Waits until a node offers `name`. Returns at once if one does.
    ///
    /// - Parameter hostLink: the path whose offers alone count. Its loss ends the wait with `linkLost`. `nil`
    ///   for any offer.
    /// - Throws: ``AstraNetError`` with code `deadlineExceeded`, `linkLost` or `closed`; `CancellationError`.
    func waitForOffer(of name: String, from hostLink: HostLink?, deadline: ContinuousClock.Instant) async throws {
        let instant = surroundings.deadline(deadline, on: timers)
        while true {
            let (result, id) = state.withLockedValue { state -> (Result<Void, AstraNetError>?, UInt32) in
                (state.waitResult(for: name, from: hostLink), state.offers.takeWaiterID())
            }
            if let result { return try result.get() }
            let place = WaitForOffer(wait: OfferWait(directory: self, name: name, hostLink: hostLink))
            switch await suspend(in: place, id: id, within: deadlines, until: instant) {
            case .ready: continue
            case .gone: throw isClosed ? AstraNetError(.closed, "the node is closed") : Self.hostLinkLost
            case .expired: throw AstraNetError(.deadlineExceeded, "no node offers '\(name)'")
            case .cancelled: throw CancellationError()
            }
        }
    }

    /// A wait for an offer of a name. It is on the heap because such waits are rare and long.
    private final class OfferWait: Sendable {
        let directory: MeshDirectory
        let name: String
        /// Path whose loss ends the wait; `nil` for none.
        let hostLink: HostLink?

        init(directory: MeshDirectory, name: String, hostLink: HostLink?) {
            self.directory = directory
            self.name = name
            self.hostLink = hostLink
        }
    }

    /// The place where a dial waits for an offer.
    private struct WaitForOffer: WaitPlace {
        let wait: OfferWait

        func put(_ waiter: Waiter) -> Bool {
            wait.directory.state.withLockedValue { state in
                guard state.waitResult(for: wait.name, from: wait.hostLink) == nil else { return false }
                state.offers.wait(for: wait.name, waiter, hostLink: wait.hostLink)
                return true
            }
        }

        func takeWaiter(_ id: UInt32) -> Waiter? {
            wait.directory.state.withLockedValue { $0.offers.takeWaiter(id, for: wait.name) }
        }
    }

    // MARK: - End

    /// Whether this node has sent GOAWAY.
    var isGoingAway: Bool { state.withLockedValue { $0.isGoingAway } }

    /// Marks the node as going away.
    ///
    /// - Returns: all links, including those that have not completed the handshake.
    func goAway() -> [Link] {
        state.withLockedValue { state in
            state.isGoingAway = true
            return state.links.all
        }
    }

    var isClosed: Bool { state.withLockedValue { $0.isClosed } }

    /// Marks the node as closed: from now on it takes no links, names and dials.
    ///
    /// - Returns: the links, listeners and waits for offers that the caller must end.
    func close() -> (links: [Link], listeners: [Listener], waiters: [Waiter]) {
        state.withLockedValue { state in
            state.isClosed = true
            return (state.links.all, state.bound.allListeners, state.offers.takeAllWaiters())
        }
    }
}
