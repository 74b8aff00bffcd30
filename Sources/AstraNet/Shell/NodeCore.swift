internal import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore

/// What a node's links share: who is bound here, who offers what elsewhere, and who waits for an offer.
final class NodeCore: Sendable {
    let id = HostID.random()
    let configuration: NodeConfiguration
    let log: Logger
    /// Where deadlines run that belong to no link.
    let timers: any EventLoop
    private let shared = NIOLockedValueBox(Shared())

    fileprivate struct Shared {
        var lastPort = Address.firstDynamicPort - 1
        var lastLink: ServiceRegistry.LinkID = 0
        var lastWaiter: UInt64 = 0
        var links: [ServiceRegistry.LinkID: Link] = [:]
        /// Links whose handshake is not done.
        var handshaking: [ServiceRegistry.LinkID: Link] = [:]
        var peers: [ServiceRegistry.LinkID: HostID] = [:]
        var listeners: [UInt32: Listener] = [:]
        var portsByName: [String: UInt32] = [:]
        var registry = ServiceRegistry()
        /// Dials that wait for an offer, by the name.
        var waiters: [String: [OfferWaiter]] = [:]
        var isClosed = false
    }

    fileprivate struct OfferWaiter {
        var waiter: Waiter<Void>
        /// The wait is over with this link, if any.
        var link: ServiceRegistry.LinkID?
    }

    init(configuration: NodeConfiguration, log: Logger, timers: any EventLoop) {
        self.configuration = configuration
        self.log = log
        self.timers = timers
    }

    func address(port: UInt32) -> Address { Address(host: id, port: port) }

    /// The next port that is handed out.
    func takePort() -> UInt32 {
        shared.withLockedValue { $0.takePort() }
    }

    // MARK: - Links

    func takeLinkID() -> ServiceRegistry.LinkID {
        shared.withLockedValue { shared in
            shared.lastLink += 1
            return shared.lastLink
        }
    }

    /// A connection is there, its handshake is not. `false` when there are too many or the node is closed.
    func linkBegins(_ link: Link) -> Bool {
        shared.withLockedValue { shared in
            guard !shared.isClosed, shared.links.count + shared.handshaking.count < configuration.maximumLinks else {
                return false
            }
            shared.handshaking[link.id] = link
            return true
        }
    }

    /// The link's handshake is done: it gets all services that are for everybody. `false` when the node is closed.
    func linkUp(_ link: Link, peer: HostID) -> Bool {
        let isWelcome = shared.withLockedValue { shared in
            guard !shared.isClosed else { return false }
            shared.handshaking[link.id] = nil
            shared.links[link.id] = link
            shared.peers[link.id] = peer
            // Under the lock, so that a SERVICE is never overtaken by its NO_SERVICE.
            for listener in shared.listeners.values where listener.visibility == .everybody {
                link.sendControl { listener.writeService(into: &$0) }
            }
            return true
        }
        if isWelcome { log.debug("link up", metadata: ["peer": "\(peer)", "link": "\(link.id)"]) }
        return isWelcome
    }

    /// The link is gone, with what came over it, and what was bound or awaited for it alone.
    func linkDown(_ link: Link, reason: AstraNetError) {
        let (orphans, waiters) = shared.withLockedValue { shared in
            shared.links[link.id] = nil
            shared.handshaking[link.id] = nil
            shared.peers[link.id] = nil
            shared.registry.removeAll(from: link.id)
            let orphans = shared.listeners.values.filter { $0.visibility == .link(link.id) }
            return (orphans, shared.takeWaiters(over: link.id))
        }
        for listener in orphans { listener.close() }
        for waiter in waiters { waiter.resume(with: .failure(Self.linkGone)) }
        log.debug("link down", metadata: ["link": "\(link.id)", "reason": "\(reason)"])
    }

    private static var linkGone: AstraNetError {
        AstraNetError(.linkLost, "the link over which the name was learnt is gone")
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
        for waiter in waiters { waiter.resume(with: .failure(AstraNetError(.closed, "the node is closed"))) }
        return (links, listeners)
    }

    // MARK: - Bound here

    /// Binds a name to a fresh port and announces it.
    func bind(_ name: String, visibility: Listener.Visibility) throws(AstraNetError) -> Listener {
        let fullName = configuration.fullName(name)
        guard !name.isEmpty, fullName.utf8.count <= configuration.maximumServiceName else {
            throw AstraNetError(
                .limitReached, "a service name has 1 to \(configuration.maximumServiceName) bytes: '\(name.prefix(64))'"
            )
        }
        let result = shared.withLockedValue { shared -> Result<Listener, AstraNetError> in
            guard !shared.isClosed else { return .failure(AstraNetError(.closed, "the node is closed")) }
            guard shared.portsByName[fullName] == nil else {
                return .failure(AstraNetError(.serviceInUse, "'\(fullName)' is bound already"))
            }
            let listener = Listener(
                name: fullName, address: address(port: shared.takePort()), visibility: visibility, node: self)
            shared.listeners[listener.address.port] = listener
            shared.portsByName[fullName] = listener.address.port
            for link in shared.audience(of: listener) { link.sendControl { listener.writeService(into: &$0) } }
            return .success(listener)
        }
        return try result.get()
    }

    /// Withdraws a name.
    func unbind(_ listener: Listener) {
        shared.withLockedValue { shared in
            guard shared.listeners.removeValue(forKey: listener.address.port) != nil else { return }
            shared.portsByName[listener.name] = nil
            for link in shared.audience(of: listener) { link.sendControl { listener.writeNoService(into: &$0) } }
        }
    }

    func isListening(on port: UInt32) -> Bool {
        shared.withLockedValue { $0.listeners[port] != nil }
    }

    /// Hands a stream to the listener of its port; `false` when there is none or its backlog is full.
    func accept(_ stream: Stream) -> Bool {
        let listener = shared.withLockedValue { $0.listeners[stream.localAddress.port] }
        return listener?.accept(stream) ?? false
    }

    // MARK: - Offered elsewhere

    /// `false` when the link has brought too many.
    func add(_ offer: ServiceOffer, from link: Link) -> Bool {
        let (result, waiters) = shared.withLockedValue { shared in
            let result = shared.registry.add(offer, from: link.id, limit: configuration.maximumServicesPerLink)
            return (result, result == .added ? shared.waiters.removeValue(forKey: offer.name) ?? [] : [])
        }
        for waiting in waiters { waiting.waiter.resume(with: .success(())) }
        return result != .limitReached
    }

    func remove(_ offer: ServiceOffer, from link: Link) {
        shared.withLockedValue { $0.registry.remove(offer, from: link.id) }
    }

    /// A router said that it can no longer reach `host`.
    func registryLost(host: HostID, on link: Link) {
        shared.withLockedValue { $0.registry.remove(host: host, from: link.id) }
    }

    var offers: [ServiceOffer] { shared.withLockedValue { $0.registry.offers } }

    /// Whether somebody offers `name` now.
    func hasOffer(of name: String) -> Bool {
        shared.withLockedValue { !$0.registry.candidates(for: name).isEmpty }
    }

    /// Picks an offer of `name` now; `nil` when there is none but the refused ones.
    func pickOffer(
        of name: String, bucket: String?, except refused: Set<Address>
    ) throws(AstraNetError) -> (Link, ServiceOffer)? {
        let result = shared.withLockedValue { shared -> Result<(Link, ServiceOffer)?, AstraNetError> in
            guard !shared.isClosed else { return .failure(AstraNetError(.closed, "the node is closed")) }
            var candidates = shared.registry.candidates(for: name)
            if !refused.isEmpty { candidates.removeAll { refused.contains($0.offer.address) } }
            guard let route = OfferSelection.pick(among: candidates, bucket: bucket, draw: .random(in: 0...UInt64.max)),
                let link = shared.links[route.link]
            else { return .success(nil) }
            return .success((link, route.offer))
        }
        return try result.get()
    }

    /// Waits until somebody offers `name`; returns at once where somebody does.
    ///
    /// - Parameter link: when this one is gone there is nothing to wait for.
    /// - Throws: ``AstraNetError`` with code `deadlineExceeded`, `linkLost` or `closed`; `CancellationError`.
    func waitForOffer(
        of name: String, over link: ServiceRegistry.LinkID?, deadline: ContinuousClock.Instant
    ) async throws {
        let id = shared.withLockedValue { shared in
            shared.lastWaiter += 1
            return shared.lastWaiter
        }
        try await waitForEvent(
            id: id, on: timers, deadline: deadline, timeoutMessage: "nobody offers '\(name)'",
            install: { (waiter: Waiter<Void>) in
                self.shared.withLockedValue { shared in
                    if shared.isClosed { return .failure(AstraNetError(.closed, "the node is closed")) }
                    if !shared.registry.candidates(for: name).isEmpty { return .success(()) }
                    if let link, shared.links[link] == nil { return .failure(Self.linkGone) }
                    shared.waiters[name, default: []].append(OfferWaiter(waiter: waiter, link: link))
                    return nil
                }
            },
            arm: { id, timer in
                self.shared.withLockedValue { shared in
                    guard let index = shared.waiters[name]?.firstIndex(where: { $0.waiter.id == id }) else {
                        return false
                    }
                    shared.waiters[name]?[index].waiter.timer = timer
                    return true
                }
            },
            remove: { id in
                self.shared.withLockedValue { shared in
                    guard let index = shared.waiters[name]?.firstIndex(where: { $0.waiter.id == id }) else {
                        return nil
                    }
                    let waiting = shared.waiters[name]?.remove(at: index)
                    if shared.waiters[name]?.isEmpty == true { shared.waiters[name] = nil }
                    return waiting?.waiter
                }
            })
    }
}

extension NodeCore.Shared {
    fileprivate mutating func takePort() -> UInt32 {
        repeat {
            lastPort = lastPort == .max ? Address.firstDynamicPort : lastPort + 1
        } while listeners[lastPort] != nil
        return lastPort
    }

    /// Takes out the dials whose wait is over with a link.
    fileprivate mutating func takeWaiters(over link: ServiceRegistry.LinkID) -> [Waiter<Void>] {
        var taken: [Waiter<Void>] = []
        for (name, waiting) in waiters where waiting.contains(where: { $0.link == link }) {
            taken += waiting.filter { $0.link == link }.map(\.waiter)
            let left = waiting.filter { $0.link != link }
            waiters[name] = left.isEmpty ? nil : left
        }
        return taken
    }

    /// The links that hear of a listener.
    fileprivate func audience(of listener: Listener) -> [Link] {
        switch listener.visibility {
        case .everybody: Array(links.values)
        case .link(let id): links[id].map { [$0] } ?? []
        }
    }
}
