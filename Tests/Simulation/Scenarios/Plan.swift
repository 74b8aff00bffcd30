import AstraNet

/// The hosts and events of one seed. All are drawn before the run, so that a failing run can be reduced to the events
/// that it needs.
struct Plan {
    let seed: UInt64
    var hosts: [HostPlan]
    /// DNS names and their hosts.
    var names: [String: [Int]]
    var blocked: Set<Internet.Pair>
    var events: [Event]
    let services: [String]
    let answers: [String]
    /// Identities, access rules and the adversary; `nil` if the seed has none of them.
    private(set) var guardPlan: GuardPlan?

    /// Percentage of the seeds that are guarded.
    private static let guardedShare = 25

    /// End of faults and random requests, in nanoseconds. After it everything must converge.
    static let quietAt = 15 * World.second

    /// - Parameter isGuarded: whether the seed is guarded in any case. By default a part of the seeds is.
    init(seed: UInt64, isGuarded: Bool = false) {
        self.seed = seed
        var random = SeededRandom(seed, 5)
        let size = random.pick(0...99)
        let count =
            switch size {
            case 0..<65: random.pick(2...5)
            case 65..<93: random.pick(6...10)
            case 93..<99: random.pick(11...20)
            default: random.pick(21...50)
            }
        let routers = count == 2 ? 0 : min(3, random.pick(1...max(1, count / 3)))
        let services = (0..<random.pick(1...4)).map { "service-\($0)" }
        var names: [String: [Int]] = [:]
        if routers > 0 { names["routers"] = Array(0..<routers) }
        var hosts: [HostPlan] = []
        for host in 0..<count {
            names["n\(host)"] = [host]
            let isOurs = random.chance(70)
            let role: NodeConfiguration.Role =
                if host < routers { .router } else if isOurs { random.pick([.client, .server, .peer]) } else {
                    random.pick([.client, .server])
                }
            hosts.append(
                HostPlan(
                    kind: isOurs ? .ours(role) : .goLike(role),
                    joins: Self.joins(of: host, count: count, routers: routers, &random),
                    services: services.filter { _ in role != .client && random.chance(role == .router ? 20 : 60) },
                    startsAt: random.next() % (2 * World.second)))
        }
        var blocked: Set<Internet.Pair> = []
        for from in 0..<count where random.chance(20) {
            for to in routers..<count where to != from && random.chance(50) && routers > 0 {
                blocked.insert(Internet.Pair(from: from, to: to))
            }
        }
        // A separate generator, so that the values drawn above do not change.
        var requests = SeededRandom(seed, 22)
        let answers = (0..<requests.pick(1...3)).map { "answers-\($0)" }
        for host in hosts.indices where hosts[host].kind.role != .client {
            hosts[host].answers = answers.filter { _ in
                requests.chance(hosts[host].kind.role == .router ? 20 : 60)
            }
        }
        self.hosts = hosts
        self.names = names
        self.blocked = blocked
        self.services = services
        self.answers = answers
        let events = Event.drawn(hosts: count, services: services, &random)
        self.events = (events + Event.drawn(hosts: count, answers: answers, &requests)).sorted { $0.at < $1.at }
        // As above: seeds that are not guarded stay as they were.
        var guarding = SeededRandom(seed, 25)
        guard guarding.chance(Self.guardedShare) || isGuarded, let guardPlan = GuardPlan(self, &guarding) else {
            return
        }
        self.guardPlan = guardPlan
        self.events = (self.events + guardPlan.drawnEvents(self, &guarding)).sorted { $0.at < $1.at }
    }

    private static func joins(of host: Int, count: Int, routers: Int, _ random: inout SeededRandom) -> [String] {
        if routers == 0 { return host == 1 || random.chance(20) ? ["n\(1 - host)"] : [] }
        if host < routers { return (0..<host).filter { _ in random.chance(60) }.map { "n\($0)" } }
        var joins: [String] = random.chance(40) ? ["routers"] : ["n\(random.pick(0...routers - 1))"]
        if random.chance(20) { joins.append("n\(random.pick(0...count - 1))") }
        return joins
    }
}

/// An event of a plan.
struct Event: CustomStringConvertible {
    enum Kind {
        case post(Post)
        case stall(host: Int, pick: Int, nanoseconds: UInt64)
        case cut(host: Int, pick: Int)
        case crash(host: Int, pause: UInt64)
        case isolate(host: Int, nanoseconds: UInt64)
        case bind(host: Int, name: String)
        case unbind(host: Int, name: String)
        case request(SimulatedRequest)
        /// A server cancels one of its requests.
        case cancelServed(host: Int, pick: Int)
        case serve(host: Int, name: String)
        case stopServing(host: Int, name: String)
        /// Changes the access rules of a host for a time.
        case restrict(host: Int, GuardPlan.Restriction, nanoseconds: UInt64)
        case attack(Attack)
    }

    /// Nanoseconds since the start of the world.
    var at: UInt64
    var kind: Kind

    var description: String { "\(Double(at / World.millisecond) / 1_000) s: \(kind)" }

    /// Draws requests and the events of their servers.
    static func drawn(hosts: Int, answers: [String], _ random: inout SeededRandom) -> [Event] {
        let faultiness = random.pick([0, 10, 30])
        let count = random.pick(5...25) + hosts / 2
        return (0..<count).map { id in
            let at = World.second / 2 + random.next() % (Plan.quietAt - World.second)
            let host = random.pick(0...hosts - 1)
            let name = random.pick(answers)
            guard random.chance(faultiness) else {
                return Event(
                    at: at,
                    kind: .request(SimulatedRequest.drawn(id: UInt64(id) + 1, host: host, name: name, &random)))
            }
            switch random.pick(0...3) {
            case 0, 1: return Event(at: at, kind: .cancelServed(host: host, pick: random.pick(0...1_000)))
            case 2: return Event(at: at, kind: .serve(host: host, name: name))
            default: return Event(at: at, kind: .stopServing(host: host, name: name))
            }
        }
    }

    static func drawn(hosts: Int, services: [String], _ random: inout SeededRandom) -> [Event] {
        let faultiness = random.pick([0, 20, 50])
        var events: [Event] = []
        let count = random.pick(5...30) + hosts
        for id in 0..<count {
            let at = World.second / 2 + random.next() % (Plan.quietAt - World.second)
            let host = random.pick(0...hosts - 1)
            let kind: Kind
            if !random.chance(faultiness) {
                kind = .post(Post.drawn(id: UInt64(id), host: host, service: random.pick(services), &random))
            } else {
                let pick = random.pick(0...1_000)
                let time = random.next() % (random.chance(15) ? 14 * World.second : 3 * World.second)
                switch random.pick(0...6) {
                case 0, 1: kind = .cut(host: host, pick: pick)
                case 2: kind = .stall(host: host, pick: pick, nanoseconds: time)
                case 3: kind = .crash(host: host, pause: time)
                case 4: kind = .isolate(host: host, nanoseconds: time)
                case 5: kind = .bind(host: host, name: random.pick(services))
                default: kind = .unbind(host: host, name: random.pick(services))
                }
            }
            events.append(Event(at: at, kind: kind))
        }
        return events.sorted { $0.at < $1.at }
    }
}
