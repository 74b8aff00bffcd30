import AstraNet
import NIOCore

/// What the adversary sends in one attack.
struct AdversaryAttack {
    private let adversary: Adversary
    private var random: SeededRandom

    /// Text of each forged ERR. No client may see it.
    static let text = "forged by the adversary"

    init(_ adversary: Adversary, seed: UInt64) {
        self.adversary = adversary
        random = SeededRandom(seed, 27)
    }

    func perform(_ kind: Attack.Kind) {
        var attack = self
        attack.run(kind)
    }

    func impersonate(_ host: HostID, at target: Int) {
        var attack = self
        attack.connect(as: host, to: target)
    }

    /// Announces the name of a source of another host to all hosts that it knows, also at the same address if it claims
    /// the id of that host at a router.
    func takeOver(_ offer: GoLikeNode.Offer) {
        var attack = self
        for link in adversary.links where link.isUp && adversary.isRouter(link.target) {
            let port = link.claimed == offer.address.host ? offer.address.port : adversary.takePort()
            for host in adversary.hosts.suffix(20) where adversary.isOurs(host) && attack.random.chance(70) {
                link.send(
                    WireOp(
                        .service, to: Address(host: host, port: 0), from: Address(host: link.claimed, port: port),
                        text: offer.name))
            }
        }
    }

    private mutating func run(_ kind: Attack.Kind) {
        switch kind {
        case .announce: for _ in 0..<random.pick(1...5) { announce() }
        case .withdraw: for _ in 0..<random.pick(1...5) { withdraw() }
        case .forge: for _ in 0..<random.pick(1...20) { forge() }
        case .claim: for _ in 0..<random.pick(1...3) { claim() }
        case .push: for _ in 0..<random.pick(1...5) { push() }
        case .impersonate:
            guard !adversary.hosts.isEmpty, let link = pickLink() else { return }
            connect(as: random.pick(adversary.hosts), to: link.target)
        case .replay: for _ in 0..<random.pick(1...20) { replay() }
        case .flood: flood()
        }
    }

    // MARK: - Choices

    private mutating func pickLink() -> AdversaryLink? {
        let up = adversary.links.filter(\.isUp)
        return up.isEmpty ? nil : random.pick(up)
    }

    private mutating func pickRoute(to host: HostID) -> AdversaryLink? {
        let routes = adversary.routes(to: host)
        return routes.isEmpty ? nil : random.pick(routes)
    }

    private mutating func pickHost() -> HostID? { adversary.hosts.isEmpty ? nil : random.pick(adversary.hosts) }

    private mutating func pickOffer() -> GoLikeNode.Offer? {
        adversary.offers.isEmpty ? nil : random.pick(adversary.offers)
    }

    /// A stream that exists or existed, or a guess.
    private mutating func pickStream() -> (from: Address, to: Address)? {
        if random.chance(90), let stream = adversary.internet.recentStream(&random) {
            return random.chance(50) ? stream : (stream.to, stream.from)
        }
        guard let from = pickHost(), let to = pickHost() else { return nil }
        func port(_ random: inout SeededRandom) -> UInt32 { UInt32(1 << 24 + random.pick(1...60)) }
        return (Address(host: from, port: port(&random)), Address(host: to, port: port(&random)))
    }

    /// Sends an op to the host of its destination, directly or through a router.
    ///
    /// A Go-like node does not know a claimed id from the host's own, so it gets no op with one.
    private mutating func send(_ op: WireOp) {
        guard let link = pickRoute(to: op.destination.host) else { return }
        send(op, over: link)
    }

    private mutating func send(_ op: WireOp, over link: AdversaryLink) {
        let host = op.destination.host
        let isForOurs = adversary.isOurs(host) || host.rawValue == 0
        guard isForOurs || op.source.host != link.claimed || link.claimed == adversary.id else { return }
        var op = op
        if host == link.peer, random.chance(30) { op.destination.host = HostID(rawValue: 0) }
        link.send(op)
    }

    // MARK: - Attacks

    private mutating func announce() {
        guard let link = pickLink() else { return }
        let name =
            random.chance(70) ? pickOffer()?.name ?? "service-0" : random.chance(50) ? "secret" : random.sourceName()
        let host = random.chance(80) ? link.claimed : pickHost() ?? adversary.id
        let source = Address(host: host, port: adversary.takePort())
        let isPrivate = adversary.isRouter(link.target) && random.chance(50)
        guard isPrivate, let receiver = pickHost(), adversary.isOurs(receiver) else {
            return link.send(WireOp(.service, to: .linkPeer, from: source, text: name))
        }
        link.send(WireOp(.service, to: Address(host: receiver, port: 0), from: source, text: name))
    }

    private mutating func withdraw() {
        guard let offer = pickOffer(), let link = pickLink() else { return }
        let isOwn = random.chance(20)
        let source = isOwn ? Address(host: link.claimed, port: offer.address.port) : offer.address
        let receiver = random.chance(50) ? pickHost() : nil
        send(
            WireOp(
                .noService, to: Address(host: receiver ?? HostID(rawValue: 0), port: 0), from: source, text: offer.name),
            over: link)
    }

    private mutating func forge() {
        guard let (from, to) = pickStream() else { return }
        let number = UInt32(random.pick([0, 1, 100, 65_536, 1 << 20]))
        let op: WireOp
        switch random.pick(0...12) {
        case 0, 1: op = WireOp(.data, to: to, from: from, text: String(repeating: "x", count: random.pick(0...2_000)))
        case 2: op = WireOp(.fin1, to: to, from: from)
        case 3: op = WireOp(.fin2, to: to, from: from)
        case 4: op = WireOp(.err, to: to, from: from, text: Self.text)
        case 5: op = WireOp(.forceClosed, to: to, from: from)
        case 6: op = WireOp(.rst, to: Address(host: to.host, port: 0), from: Address(host: from.host, port: 0))
        case 7: op = WireOp(.syn, to: to, from: from)
        case 8: op = WireOp(.ack, to: to, from: from)
        case 9: op = WireOp(.rewind, to: to, from: from, number: number)
        case 10: op = WireOp(.windowSize, to: to, from: from, number: number)
        case 11: op = WireOp(.goAway, to: Address(host: to.host, port: 0), from: Address(host: from.host, port: 0))
        default: op = WireOp(.dial, to: to, from: Address(host: from.host, port: adversary.takePort()))
        }
        send(op)
    }

    private mutating func claim() {
        guard let offer = pickOffer(), adversary.isOurs(offer.address.host),
            let link = pickRoute(to: offer.address.host)
        else { return }
        let source = Address(host: link.claimed, port: adversary.takePort())
        var block = DialBlock(meta: "claimed", bucket: nil)
        block.identity = "uri \(GuardPlan.identity(of: random.pick(0...adversary.internet.hostCount - 1)))"
        if random.chance(70) { block.push = DialBlock.Push(nonce: random.next(), maximumSources: 64, window: 16_384) }
        var payload = ByteBuffer()
        block.encode(into: &payload)
        link.send(WireOp(.dial, to: offer.address, from: source, payload: payload))
        let body = Self.body(for: offer.name)
        if link.peer == offer.address.host {
            link.send(WireOp(.data, to: offer.address, from: source, payload: body))
        } else {
            adversary.post(body, on: source.port)
        }
    }

    /// A valid request with an id of no client.
    private static func body(for name: String) -> ByteBuffer {
        let id: UInt64 = 5_000_000
        if name.hasPrefix("service") {
            let post = Post(
                id: id, host: 0, service: name, behaviour: .readsAtOnce, requestSize: 10, answerSize: 100, seed: 0)
            return Content.opening(of: post, 10)
        }
        let request = SimulatedRequest(
            id: id, host: 0, name: name, behaviour: .inOrder, bodySize: 10, deadline: nil, acceptsPushedSources: true,
            sourceBuffer: 1, seed: 0)
        let bytes = RequestBody.bytes(of: request)
        var body = ByteBuffer()
        body.writeInteger(UInt64(bytes.readableBytes), endianness: .little)
        body.writeImmutableBuffer(bytes)
        return body
    }

    private mutating func push() {
        guard let (server, client) = pickStream(), adversary.isOurs(client.host), let link = pickRoute(to: client.host)
        else { return }
        // It has received no nonce: a router forwards grants only to their servers.
        let guess = random.next()
        let nonce: UInt64 = random.pick([0, 1, guess])
        let isForged = random.chance(60)
        let source = Address(host: isForged ? server.host : link.claimed, port: adversary.takePort())
        let block = DialBlock(
            source: DialBlock.Source(nonce: nonce, streamPort: server.port, index: UInt32(random.pick(0...2))))
        var payload = ByteBuffer()
        block.encode(into: &payload)
        send(WireOp(.dial, to: client, from: source, payload: payload), over: link)
        send(WireOp(.data, to: client, from: source, payload: ByteBuffer(repeating: 0, count: 16)), over: link)
    }

    /// Connects with the host id of another host, and sends ops of that host.
    private mutating func connect(as host: HostID, to target: Int) {
        guard host != adversary.id else { return }
        let time: UInt64? = random.chance(25) ? nil : random.next() % (5 * World.second)
        let attack = AdversaryAttack(adversary, seed: random.next())
        adversary.connect(to: target, claims: host, for: time) { link in
            link.connection.world.after(100 * World.millisecond) { attack.use(link) }
        }
    }

    /// Sends announcements and ops of streams of the claimed host.
    private func use(_ link: AdversaryLink) {
        var attack = self
        let offers = adversary.offers.filter { $0.address.host == link.claimed }
        for offer in offers.prefix(10) {
            link.send(WireOp(.service, to: .linkPeer, from: offer.address, text: offer.name))
        }
        for _ in 0..<10 {
            guard let (_, to) = attack.pickStream() else { return }
            let from = Address(host: link.claimed, port: UInt32(1 << 24 + attack.random.pick(1...60)))
            attack.send(
                attack.random.pick([
                    WireOp(.data, to: to, from: from, text: "x"), WireOp(.err, to: to, from: from, text: Self.text),
                    WireOp(.rst, to: Address(host: to.host, port: 0), from: Address(host: from.host, port: 0)),
                ]), over: link)
        }
    }

    private mutating func replay() {
        guard !adversary.recorded.isEmpty, let link = pickLink() else { return }
        var op = random.pick(adversary.recorded)
        if random.chance(50), let host = pickHost() { op.destination.host = host }
        if random.chance(30) { op.source.host = link.claimed }
        // An announcement with its own source to a Go-like node, which has no access rules, would be taken.
        guard adversary.isOurs(op.destination.host) || op.source.host != link.claimed || !op.command.isAnnouncement
        else { return }
        send(op, over: link)
    }

    private mutating func flood() {
        guard let link = pickLink() else { return }
        let source = Address(host: link.claimed, port: adversary.takePort())
        let host = pickHost().flatMap { adversary.isOurs($0) ? $0 : nil } ?? HostID(rawValue: 0)
        let to = Address(host: host, port: UInt32(1 << 24 + random.pick(1...60)))
        let count = random.pick(50...300)
        let command = random.pick([
            Command.ping, .pong, .data, .syn, .ack, .synAck, .fin1, .fin2, .err, .rst, .goAway, .noService, .follow,
            .handshake, Command(rawValue: 77),
        ])
        for _ in 0..<count {
            link.send(WireOp(command, to: to, from: source, text: command == .follow ? adversary.addressText : ""))
        }
        for _ in 0..<5 { link.send(WireOp(.discover, to: to, from: source)) }
    }
}

extension Command {
    /// Whether a node that has no access rules would use the op of a stranger.
    fileprivate var isAnnouncement: Bool { self == .service || self == .follow || self == .dial }
}
