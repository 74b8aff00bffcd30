import AstraNet
import NIOCore

/// A node that attacks the mesh of a guarded seed. It has an identity that no rule names.
///
/// It learns names, addresses and host ids only from what it receives. It guesses the ports of streams right, but not
/// the nonces of requests. To Go-like nodes it sends only ops of streams and withdrawals, because they have no access
/// rules.
///
/// `@unchecked Sendable`: see ``World``.
final class Adversary: @unchecked Sendable {
    let internet: Internet
    let world: World
    let id: HostID
    private let plan: GuardPlan
    /// The kind of the node that has a host id now; `nil` if there is none.
    private let kind: (HostID) -> NodeKind?
    private(set) var links: [AdversaryLink] = []
    private var joining: Set<Int> = []
    private var isResting = false
    private var random: SeededRandom
    private var lastPort: UInt32 = 1 << 24

    /// What it has heard, the oldest first.
    private(set) var offers: [GoLikeNode.Offer] = []
    private(set) var hosts: [HostID] = []
    private(set) var recorded: [WireOp] = []
    /// The bodies of requests that it posts when their streams are open, by port.
    private var bodies: [UInt32: ByteBuffer] = [:]

    /// The streams of which it has sent DIAL or DATA. If it claims several ids, a router may forward them to itself.
    private var own: Set<Ends> = []
    /// The addresses that it has announced.
    private var ownAddresses: Set<Address> = []

    private struct Ends: Hashable {
        var source: Address
        var destination: Address
    }

    private static let maximumKnown = 300

    init(_ plan: GuardPlan, internet: Internet, kind: @escaping (HostID) -> NodeKind?) {
        self.plan = plan
        self.internet = internet
        self.kind = kind
        world = internet.world
        random = SeededRandom(world.seed, 26)
        id = HostID(rawValue: random.next() >> 1)
        world.hostiles = Hostiles(host: plan.adversary, id: id)
        internet.listen(
            at: Internet.address(of: plan.adversary),
            Internet.Acceptor(host: plan.adversary, isOurs: false) { [weak self] connection in self?.accept(connection)
            })
    }

    var addressText: String { "\(Internet.ip(of: plan.adversary)):\(Internet.port)" }

    /// Whether a node may know an offer with this host id from it.
    func mayUse(_ host: HostID) -> Bool {
        host == id || kind(host) == nil || world.hostiles.claimed.values.contains { $0.contains(host) }
    }

    func isOurs(_ host: HostID) -> Bool { kind(host)?.isOurs ?? false }

    func isRouter(_ host: Int) -> Bool { plan.routers.contains(host) }

    func takePort() -> UInt32 {
        lastPort += 1
        return lastPort
    }

    // MARK: - Links

    /// Joins the targets that it has no link with.
    func join() {
        for target in plan.targets where !links.contains(where: { $0.target == target && $0.claimed == id }) {
            connect(to: target, claims: id)
        }
    }

    /// Connects with a host id.
    ///
    /// - Parameter time: nanoseconds after which it closes the link; `nil` if it keeps the link.
    func connect(
        to target: Int, claims claimed: HostID, for time: UInt64? = nil,
        then body: @escaping (AdversaryLink) -> Void = { _ in }
    ) {
        guard claimed != id || joining.insert(target).inserted else { return }
        internet.connect(
            from: plan.adversary, isOurs: false, to: Internet.address(of: target), timeout: 5 * World.second,
            isStillThere: { !self.isResting }
        ) { [weak self] result in
            guard let self else { return }
            if claimed == id { joining.remove(target) }
            guard case .success(let connection) = result else { return }
            let link = begin(connection, side: 0, claims: claimed)
            body(link)
            if let time { world.after(time) { link.close() } }
        }
    }

    /// Accepts a connection that a node has dialled because the adversary told it this address as that of a host.
    private func accept(_ connection: Connection) {
        let claimed = hosts.isEmpty || random.chance(30) ? id : random.pick(hosts)
        _ = begin(connection, side: 1, claims: claimed)
    }

    private func begin(_ connection: Connection, side: Int, claims claimed: HostID) -> AdversaryLink {
        if claimed != id { world.hostiles.claimed[connection.hosts[1 - side], default: []].insert(claimed) }
        // The address at which it pretends to see the peer: that of the peer, its own, or one of no host.
        let seen = random.pick(["\(Internet.ip(of: connection.hosts[1 - side])):20000", addressText, "10.99.0.1:20000"])
        let link = AdversaryLink(
            connection, side: side, claims: claimed, hasAbilities: random.chance(80), seenAt: seen, by: self)
        links.append(link)
        return link
    }

    func linkDown(_ link: AdversaryLink) { links.removeAll { $0 === link } }

    /// The links over which ops can reach a host: direct ones, and those to routers.
    func routes(to host: HostID) -> [AdversaryLink] {
        links.filter { $0.isUp && ($0.peer == host || isRouter($0.target)) }
    }

    /// Makes no more attacks, but keeps its links.
    func rest() { isResting = true }

    // MARK: - Times of attacks

    func perform(_ attack: Attack) {
        guard !isResting else { return }
        join()
        AdversaryAttack(self, seed: attack.seed).perform(attack.kind)
    }

    /// Attacks on its own until it rests.
    func goOn() {
        guard !isResting else { return }
        perform(Attack.drawn(&random))
        world.after(UInt64(random.pick(100...1_500)) * World.millisecond) { [weak self] in self?.goOn() }
    }

    /// It sees that two hosts have lost a link, and may take the place of one of them at once.
    func sees(lostLinkBetween ends: [Int], ids: [HostID?]) {
        guard !isResting, random.chance(40) else { return }
        let side = random.pick(0...1)
        guard plan.targets.contains(ends[side]), let claimed = ids[1 - side], hosts.contains(claimed) else { return }
        AdversaryAttack(self, seed: random.next()).impersonate(claimed, at: ends[side])
    }

    // MARK: - What it hears

    func hears(of host: HostID) {
        guard host != id, host.rawValue != 0, hosts.last != host, !hosts.contains(host) else { return }
        hosts.append(host)
        if hosts.count > Self.maximumKnown { hosts.removeFirst() }
    }

    /// Records what it sends.
    func sends(_ op: WireOp) {
        if op.command == .dial || op.command == .data {
            own.insert(Ends(source: op.source, destination: op.destination))
        }
        if op.command == .service { ownAddresses.insert(op.source) }
    }

    func take(_ op: WireOp, from link: AdversaryLink) {
        hears(of: op.source.host)
        recorded.append(op)
        if recorded.count > Self.maximumKnown { recorded.removeFirst() }
        switch op.command {
        case .service:
            let offer = GoLikeNode.Offer(name: op.text, address: op.source)
            guard !offers.contains(offer), !ownAddresses.contains(op.source) else { return }
            offers.append(offer)
            if offers.count > Self.maximumKnown { offers.removeFirst() }
            // A client that waits for the name of a source dials it soon.
            if offer.name.utf8.count == 36, !isResting, random.chance(50) {
                AdversaryAttack(self, seed: random.next()).takeOver(offer)
            }
        case .dial, .data:
            guard !own.contains(Ends(source: op.source, destination: op.destination)) else { return }
            world.broken("an op reached the adversary at n\(link.target), which claims \(link.claimed): \(op)")
        case .syn:
            // The stream is open. A cookie of the server is returned.
            guard let body = bodies.removeValue(forKey: op.destination.port) else { return }
            link.send(WireOp(.ack, to: op.source, from: op.destination, payload: op.payload))
            link.send(WireOp(.data, to: op.source, from: op.destination, payload: body))
        default: break
        }
    }

    /// Sends `body` when the stream with this port is open.
    func post(_ body: ByteBuffer, on port: UInt32) {
        if bodies.count >= Self.maximumKnown { bodies = [:] }
        bodies[port] = body
    }
}
