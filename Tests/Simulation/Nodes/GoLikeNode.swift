import AstraNet
import NIOCore

/// A node that implements exactly the behaviour of a Go node: ops of at most 64 KiB, no abilities, announcements every
/// 50 ms, no answer to a DIAL that no listener takes.
///
/// `@unchecked Sendable`: see ``World``.
final class GoLikeNode: SimulatedNode, @unchecked Sendable {
    struct Offer: Equatable {
        var name: String
        var address: Address
    }

    private struct Path: Hashable {
        var from: Address
        var to: Address
    }

    private struct Key: Hashable {
        var local: UInt32
        var remote: Address
    }

    let hostID: HostID
    private let internet: Internet
    private let world: World
    private let host: Int
    private let role: NodeConfiguration.Role
    private var random: SeededRandom
    private var isGone = false
    private(set) var links: [GoLikeLink] = []
    private(set) var bound: [String: UInt32] = [:]
    private var listeners: [UInt32: @Sendable (any SimulatedStream) -> Void] = [:]
    private var lastPort: UInt32 = 1 << 24
    private var streams: [Key: GoLikeStream] = [:]
    private var keys: [Key] = []
    private var unconfirmed: Set<Key> = []
    private var dialing: [UInt32: GoLikeStream] = [:]
    private var asked: Set<HostID> = []
    /// Addresses that are joined or being joined.
    private var joining: Set<Int> = []
    /// Hosts that are joined again after a lost link.
    private var plannedTargets: Set<Int> = []
    private let offersChanged: Signal
    /// For a router: the hosts that have exchanged ops with each host.
    private var contacts: [HostID: [HostID]] = [:]
    /// For a router: the link on which each stream arrived.
    private var routes: [Path: GoLikeLink] = [:]

    init(_ plan: HostPlan, host: Int, incarnation: Int, internet: Internet) {
        self.internet = internet
        world = internet.world
        self.host = host
        role = plan.kind.role
        random = SeededRandom(world.seed, 4, UInt64(host), UInt64(incarnation))
        hostID = HostID(rawValue: random.next() >> 1)
        offersChanged = Signal(world)
        internet.listen(
            at: Internet.address(of: host),
            Internet.Acceptor(host: host, isOurs: false) { [unowned self] connection in
                GoLikeLink(connection, side: 1, node: self).start()
            })
        for name in plan.joins {
            for target in internet.names[name] ?? [] {
                plannedTargets.insert(target)
                join(target, isKept: true, pause: 250 * World.millisecond)
            }
        }
    }

    func address(_ port: UInt32) -> Address { Address(host: hostID, port: port) }

    func crash() {
        isGone = true
        internet.stopListening(at: Internet.address(of: host))
        for link in links { link.disconnected() }
    }

    // MARK: - Links

    private func join(_ target: Int, isKept: Bool, pause: UInt64) {
        guard !isGone, target != host || isKept, joining.insert(target).inserted else { return }
        internet.connect(
            from: host, isOurs: false, to: Internet.address(of: target), timeout: 5 * World.second,
            isStillThere: { !self.isGone }
        ) { [self] result in
            guard !isGone else { return }
            switch result {
            case .success(let connection): GoLikeLink(connection, side: 0, node: self).start()
            case .failure:
                joining.remove(target)
                guard isKept else { return }
                let jittered = pause / 2 + random.next() % (pause / 2)
                world.after(jittered) {
                    self.join(target, isKept: true, pause: min(pause * 2, 60 * World.second))
                }
            }
        }
    }

    func linkUp(_ link: GoLikeLink) {
        guard link.peer != hostID else { return link.close() }
        links.append(link)
        guard role != .client else { return }
        for (name, port) in bound.sorted(by: { $0.key < $1.key }) {
            link.announce(WireOp(.service, to: .linkPeer, from: address(port), text: name))
        }
        send(WireOp(.follow, to: .linkPeer, from: address(0), text: "\(Internet.ip(of: host)):\(Internet.port)"), link)
        guard role == .router else { return }
        for other in links where other.peer != link.peer {
            for offer in other.offers where offer.address.host == other.peer {
                link.announce(WireOp(.service, to: .linkPeer, from: offer.address, text: offer.name))
            }
        }
    }

    func linkDown(_ link: GoLikeLink) {
        links.removeAll { $0 === link }
        for key in keys where streams[key]?.isOver(link) == true { forget(key, "link lost") }
        for (port, stream) in dialing.sorted(by: { $0.key < $1.key }) where stream.isOver(link) {
            stream.fail("link lost")
            dialing[port] = nil
        }
        if link.side == 0 {
            let target = link.connection.hosts[1]
            joining.remove(target)
            world.after(250 * World.millisecond) {
                guard self.plannedTargets.contains(target) else { return }
                self.join(target, isKept: true, pause: 500 * World.millisecond)
            }
        }
        guard !isGone, let peer = link.peer else { return }
        if role == .router {
            for offer in link.offers where offer.address.host == peer {
                let isKnown = links.contains { $0.peer == peer && $0.offers.contains(offer) }
                if !isKnown { relay(.noService, offer) }
            }
        }
        guard !links.contains(where: { $0.peer == peer }) else { return }
        asked.remove(peer)
        guard role == .router else { return }
        for contact in contacts.removeValue(forKey: peer) ?? [] {
            guard let route = links.first(where: { $0.peer == contact }) else { continue }
            route.send(WireOp(.rst, to: Address(host: contact, port: 0), from: Address(host: peer, port: 0)))
        }
    }

    private func send(_ op: WireOp, _ link: GoLikeLink) { link.send(op) }

    // MARK: - Services

    func bind(_ name: String, accepted: @escaping @Sendable (any SimulatedStream) -> Void) {
        guard bound[name] == nil, !isGone else { return }
        lastPort += 1
        bound[name] = lastPort
        listeners[lastPort] = accepted
        guard role != .client else { return }
        for link in links { link.announce(WireOp(.service, to: .linkPeer, from: address(lastPort), text: name)) }
    }

    func unbind(_ name: String) {
        guard let port = bound.removeValue(forKey: name) else { return }
        listeners[port] = nil
        guard role != .client else { return }
        for link in links { link.announce(WireOp(.noService, to: .linkPeer, from: address(port), text: name)) }
    }

    // MARK: - Requests

    func serve(_ name: String, for workload: RequestWorkload) {
        GoLikeServer(node: self, workload: workload).serve(name)
    }

    func stopServing(_ name: String) { unbind(name) }

    func run(_ request: SimulatedRequest, for workload: RequestWorkload) async -> RequestWorkload.Outcome {
        await GoLikeClient(request, workload, self).run()
    }

    private func relay(_ command: Command, _ offer: Offer) {
        for link in links where link.peer != offer.address.host {
            link.announce(WireOp(command, to: .linkPeer, from: offer.address, text: offer.name))
        }
    }

    private func takeService(_ op: WireOp, from link: GoLikeLink) {
        let offer = Offer(name: op.text, address: op.source)
        let isDirect = op.source.host == link.peer
        if op.command == .service {
            guard !link.offers.contains(offer) else { return }
            link.offers.append(offer)
            offersChanged.fire()
            let isLinked = links.contains { $0.peer == op.source.host }
            if !isDirect, !isLinked, role == .client || role == .router, op.source.host != hostID,
                asked.insert(op.source.host).inserted
            {
                link.send(WireOp(.discover, to: Address(host: op.source.host, port: 0), from: address(0)))
            }
        } else {
            guard let index = link.offers.firstIndex(of: offer) else { return }
            link.offers.remove(at: index)
            // Another link to the host may still have the offer.
            if links.contains(where: { $0.peer == link.peer && $0.offers.contains(offer) }) { return }
        }
        if role == .router, isDirect { relay(op.command, offer) }
    }

    // MARK: - Dialling

    func dial(_ name: String, first: ByteBuffer, deadline: UInt64) async throws -> any SimulatedStream {
        while true {
            let candidates = links.flatMap { link in link.offers.filter { $0.name == name }.map { (link, $0) } }
            if !candidates.isEmpty {
                let picked = candidates[random.pick(0...candidates.count - 1)]
                let target = picked.1.address
                // A direct offer is preferred over a relayed one.
                let link = links.first { $0.peer == target.host && $0.offers.contains(picked.1) } ?? picked.0
                lastPort += 1
                let stream = GoLikeStream(local: address(lastPort), remote: target, link: link)
                dialing[lastPort] = stream
                link.send(WireOp(.dial, to: target, from: stream.local))
                do {
                    try await stream.opened(deadline: deadline)
                    try await stream.send(first, deadline: deadline)
                    return stream
                } catch {
                    dialing[stream.local.port] = nil
                    stream.close()
                    throw error
                }
            }
            if isGone { throw GoLikeStream.Failed(reason: "crashed") }
            try await offersChanged.wait(deadline: deadline)
        }
    }

    // MARK: - Ops

    func take(_ op: WireOp, from link: GoLikeLink) {
        let destination = op.destination.host
        if destination.rawValue != 0, destination != hostID { return forward(op, from: link) }
        switch op.command {
        case .ping: link.send(WireOp(.pong, to: op.source, from: op.destination))
        case .service, .noService: takeService(op, from: link)
        case .discover:
            guard role != .client else { return }
            link.send(
                WireOp(
                    .follow, to: Address(host: op.source.host, port: 0), from: address(0),
                    text: "\(Internet.ip(of: host)):\(Internet.port)"))
        case .follow: follow(op)
        case .rst:
            for key in keys where key.remote.host == op.source.host && streams[key]?.isOver(link) == true {
                forget(key, "RST received")
            }
            for (port, stream) in dialing.sorted(by: { $0.key < $1.key })
            where stream.remote.host == op.source.host && stream.isOver(link) {
                stream.fail("RST received")
                dialing[port] = nil
            }
        case .dial: takeDial(op, from: link)
        case .syn: takeSyn(op, from: link)
        case .pong, .handshake: break
        default: takeStreamOp(op, from: link)
        }
    }

    private func follow(_ op: WireOp) {
        guard role == .client, !links.contains(where: { $0.peer == op.source.host }),
            let place = HostPort(op.text),
            let target = (0..<internet.hostCount).first(where: { Internet.ip(of: $0) == place.host }), target != host
        else { return }
        join(target, isKept: false, pause: World.second)
    }

    private func forward(_ op: WireOp, from link: GoLikeLink) {
        guard role == .router, op.source.host == link.peer else { return }
        let destination = op.destination.host
        // A stream stays on the links over which it was dialled.
        routes[Path(from: op.destination, to: op.source)] = link
        let known = routes[Path(from: op.source, to: op.destination)].flatMap { $0.isOpen ? $0 : nil }
        guard let route = known ?? links.first(where: { $0.peer == destination }) else {
            if op.command != .rst {
                link.send(
                    WireOp(.rst, to: Address(host: op.source.host, port: 0), from: Address(host: destination, port: 0)))
            }
            return
        }
        if !contacts[destination, default: []].contains(op.source.host) {
            contacts[destination, default: []].append(op.source.host)
            if !contacts[op.source.host, default: []].contains(destination) {
                contacts[op.source.host, default: []].append(destination)
            }
        }
        route.send(op)
    }

    private func takeDial(_ op: WireOp, from link: GoLikeLink) {
        guard listeners[op.destination.port] != nil else { return }
        let key = Key(local: op.destination.port, remote: op.source)
        let stream = GoLikeStream(local: address(op.destination.port), remote: op.source, link: link)
        add(stream, key)
        unconfirmed.insert(key)
        link.send(WireOp(.syn, to: op.source, from: stream.local))
    }

    private func takeSyn(_ op: WireOp, from link: GoLikeLink) {
        guard let stream = dialing[op.destination.port], stream.remote == op.source else { return }
        dialing[op.destination.port] = nil
        add(stream, Key(local: op.destination.port, remote: op.source))
        link.send(WireOp(.ack, to: op.source, from: stream.local))
    }

    private func takeStreamOp(_ op: WireOp, from link: GoLikeLink) {
        let key = Key(local: op.destination.port, remote: op.source)
        guard let stream = streams[key] else {
            if let stream = dialing[op.destination.port], stream.remote == op.source, op.command == .err {
                stream.fail("refused: \(op.text)")
            }
            return
        }
        switch op.command {
        case .ack where unconfirmed.contains(key):
            unconfirmed.remove(key)
            stream.confirmed()
            link.send(WireOp(.synAck, to: op.source, from: stream.local))
            listeners[key.local]?(stream)
        case .synAck: stream.confirmed()
        default:
            if unconfirmed.contains(key), op.command == .data { world.broken("DATA before ACK: \(op)") }
            stream.take(op)
        }
    }

    private func add(_ stream: GoLikeStream, _ key: Key) {
        streams[key] = stream
        keys.append(key)
    }

    private func forget(_ key: Key, _ reason: String) {
        streams.removeValue(forKey: key)?.fail(reason)
        keys.removeAll { $0 == key }
        unconfirmed.remove(key)
    }
}
