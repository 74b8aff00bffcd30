import AstraNet

/// The identities, the access rules and the targets of the adversary in a guarded seed.
///
/// Each host has the identity `test:nX`, which ``SimulatedSecurity`` proves. The adversary is the host behind the last
/// one of the plan, and no rule names it.
struct GuardPlan {
    /// The number of hosts of the plan. It is the number of the adversary too.
    let adversary: Int
    let routers: Set<Int>
    /// Whether nodes of this library secure their connections. If not, the network itself proves the identities.
    let hasSecurity: Bool
    /// Whether a router is Go-like. Callers behind such a router have proved nothing.
    let hasGoLikeRouter: Bool
    let goLikeServers: Set<Int>
    /// The hosts, besides routers, that may announce each name.
    let announcers: [String: Set<Int>]
    /// The hosts that the adversary joins. All are of this library: a Go node has no access rules, so it must not be
    /// reachable for a peer that has no permission.
    let targets: [Int]

    /// A temporary change of the rules of one host.
    enum Restriction: Hashable {
        /// No host may announce a name.
        case noAnnouncement(of: String)
        case noRelay
        /// The rules do not name a host.
        case noIdentity(of: Int)
        case nothingAllowed
    }

    static func identity(of host: Int) -> String { "test:n\(host)" }

    /// Returns the access rules of each node.
    func rules(_ restriction: Restriction? = nil) -> AccessRules {
        if restriction == .nothingAllowed { return AccessRules() }
        func names(_ hosts: some Sequence<Int>) -> Set<String> { Set(hosts.map { "n\($0)" }) }
        let everyone = Set(0..<adversary)
        var announce = announcers.sorted { $0.key < $1.key }.map { name, hosts in
            AccessRules.Announce(
                pattern: name,
                names: restriction == .noAnnouncement(of: name) ? [] : names(hosts.union(routers)))
        }
        // A Go-like server announces the random names of its sources to all nodes.
        announce.append(AccessRules.Announce(pattern: "*", names: names(routers.union(goLikeServers))))
        return AccessRules(
            identities: everyone.sorted().filter { restriction != .noIdentity(of: $0) }.map {
                AccessRules.Identity(name: "n\($0)", matchers: [AccessRules.Matcher(uri: Self.identity(of: $0))])
            },
            announce: announce, relay: restriction == .noRelay ? [] : names(routers))
    }

    /// Whether an error of a client or server is one that only ops of the adversary can cause: no node of the mesh sends
    /// FORCE_CLOSED.
    static func isOfAdversary(_ error: any Error) -> Bool {
        let text = "\(error)"
        return text.contains(AdversaryAttack.text) || text.contains("FORCE_CLOSED")
    }

    /// Whether servers serve a caller.
    func allows(_ caller: SimulatedCaller) -> Bool {
        caller.isNamed || caller.identity.isEmpty && hasGoLikeRouter
    }

    /// The rule that a caller breaks with its identity; `nil` if the identity is right.
    ///
    /// - Parameter host: the host of the client; `nil` if no client has sent the request.
    func problem(with caller: SimulatedCaller, of host: Int?) -> String? {
        guard let host else { return "a request of the adversary was served for '\(caller.identity)'" }
        if caller.identity == Self.identity(of: host) || caller.identity.isEmpty && hasGoLikeRouter { return nil }
        return "a request of n\(host) was served for '\(caller.identity)'"
    }
}

/// What a server knows about the caller of a stream.
struct SimulatedCaller {
    var identity: String
    /// Whether the access rules name the caller.
    var isNamed: Bool
}

extension GuardPlan {
    /// Draws what only guarded seeds have. Returns `nil` if no host is of this library.
    init?(_ plan: Plan, _ random: inout SeededRandom) {
        let kinds = plan.hosts.map(\.kind)
        let ours = kinds.indices.filter { kinds[$0].isOurs }
        guard !ours.isEmpty else { return nil }
        adversary = kinds.count
        routers = Set(kinds.indices.filter { kinds[$0].role == .router })
        goLikeServers = Set(kinds.indices.filter { !kinds[$0].isOurs && kinds[$0].role != .client })
        hasGoLikeRouter = kinds.contains(.goLike(.router))
        var announcers: [String: Set<Int>] = [:]
        for name in plan.services + plan.answers {
            announcers[name] = Set(
                plan.hosts.indices.filter {
                    plan.hosts[$0].services.contains(name) || plan.hosts[$0].answers.contains(name)
                })
        }
        for event in plan.events {
            switch event.kind {
            case .bind(let host, let name), .serve(let host, let name): announcers[name, default: []].insert(host)
            default: break
            }
        }
        self.announcers = announcers
        var targets = ours.filter { kinds[$0].role == .router || random.chance(200 / max(4, ours.count)) }
        if targets.isEmpty { targets = [random.pick(ours)] }
        self.targets = targets
        hasSecurity = random.chance(70)
    }

    /// Draws the attacks and the changes of rules.
    func drawnEvents(_ plan: Plan, _ random: inout SeededRandom) -> [Event] {
        let restrictions = random.chance(30) ? random.pick(1...4) : 0
        let names = plan.services + plan.answers
        func time(_ random: inout SeededRandom) -> UInt64 {
            World.second / 2 + random.next() % (Plan.quietAt - World.second)
        }
        let attacks = (0..<random.pick(10...50)).map { _ in
            Event(at: time(&random), kind: .attack(Attack.drawn(&random)))
        }
        let changes = (0..<restrictions).map { _ in
            let host = random.pick(0...adversary - 1)
            let restriction: Restriction =
                switch random.pick(0...3) {
                case 0: .noAnnouncement(of: random.pick(names))
                case 1: .noRelay
                case 2: .noIdentity(of: random.pick(0...adversary - 1))
                default: .nothingAllowed
                }
            return Event(
                at: time(&random),
                kind: .restrict(host: host, restriction, nanoseconds: random.next() % (4 * World.second)))
        }
        return attacks + changes
    }
}

/// One attack of the adversary. What it sends depends on what the adversary has learned by then.
struct Attack {
    enum Kind: CaseIterable {
        /// Announces its own address under names of others, to the peer or through a router to one host.
        case announce
        /// Withdraws names of others.
        case withdraw
        /// Sends ops of streams of others.
        case forge
        /// Dials services and claims another identity.
        case claim
        /// Pushes sources into requests of others.
        case push
        /// Connects with the host id of another host.
        case impersonate
        /// Sends received ops again.
        case replay
        /// Sends many small ops.
        case flood
    }

    var kind: Kind
    var seed: UInt64

    static func drawn(_ random: inout SeededRandom) -> Attack {
        Attack(kind: random.pick(Kind.allCases), seed: random.next())
    }
}
