import AstraNet
import NIOCore

/// The hosts of a plan in a world. Starts and crashes them and performs the events of the plan.
///
/// `@unchecked Sendable`: see ``World``.
final class Mesh: @unchecked Sendable {
    let plan: Plan
    let world: World
    let internet: Internet
    let workload: Workload
    let requests: RequestWorkload
    private(set) var nodes: [(any SimulatedNode)?]
    private var incarnations: [Int]
    /// The services and the request names of each host, bound whenever it is up.
    private var services: [Set<String>]
    private var answers: [Set<String>]
    private var posts: [[Task<Void, Never>]]
    private var isQuiet = false
    private(set) var adversary: Adversary?
    /// The present restriction of the access rules of each host.
    private var restrictions: [Int: GuardPlan.Restriction] = [:]

    init(plan: Plan, world: World) {
        self.plan = plan
        self.world = world
        internet = Internet(world: world, hostCount: plan.hosts.count)
        internet.names = plan.names
        internet.blocked = plan.blocked
        workload = Workload(world: world)
        requests = RequestWorkload(world: world)
        requests.losesClientsSilently = plan.hosts.contains { $0.kind == .goLike(.router) }
        nodes = plan.hosts.map { _ in nil }
        incarnations = plan.hosts.map { _ in 0 }
        posts = plan.hosts.map { _ in [] }
        services = plan.hosts.map { Set($0.services) }
        answers = plan.hosts.map { Set($0.answers) }
        workload.guardPlan = plan.guardPlan
        requests.guardPlan = plan.guardPlan
        if let guardPlan = plan.guardPlan {
            adversary = Adversary(guardPlan, internet: internet) { [weak self] in self?.kind(of: $0) }
        }
        for (host, hostPlan) in plan.hosts.enumerated() {
            world.after(hostPlan.startsAt) { self.start(host) }
        }
        for event in plan.events {
            world.after(event.at) { self.perform(event) }
        }
    }

    private func start(_ host: Int) {
        guard nodes[host] == nil else { return }
        incarnations[host] += 1
        let hostPlan = plan.hosts[host]
        let node: any SimulatedNode =
            hostPlan.kind.isOurs
            ? OurNode(
                hostPlan, host: host, incarnation: incarnations[host], internet: internet, access: access(of: host),
                security: plan.guardPlan?.hasSecurity == true ? SimulatedSecurity() : nil)
            : GoLikeNode(hostPlan, host: host, incarnation: incarnations[host], internet: internet)
        world.note("n\(host) starts as \(hostPlan.kind), host \(node.hostID), joins \(hostPlan.joins)")
        nodes[host] = node
        for name in services[host].sorted() { node.bind(name) { self.workload.serve($0) } }
        for name in answers[host].sorted() { node.serve(name, for: requests) }
    }

    /// The kind of the node with a host id.
    private func kind(of id: HostID) -> NodeKind? {
        nodes.firstIndex { $0?.hostID == id }.map { plan.hosts[$0].kind }
    }

    private func access(of host: Int) -> AccessRules? { plan.guardPlan?.rules(restrictions[host]) }

    /// Changes the access rules of a host, as a reload does; `nil` restores them.
    private func restrict(_ host: Int, _ restriction: GuardPlan.Restriction?) {
        restrictions[host] = restriction
        guard let node = ours(host) else { return }
        node.access = access(of: host)
        // The links apply the rules on their event loops.
        world.after(World.millisecond) {
            guard let restriction, self.restrictions[host] == restriction, self.ours(host) === node else { return }
            let known = Invariants(mesh: self).forbiddenOffers(of: host, restriction)
            if !known.isEmpty { self.world.broken("n\(host) knows \(known) in spite of \(restriction)") }
        }
    }

    /// The refusals of nodes that have crashed.
    private var counted = 0

    /// Ops that the nodes of this library have refused because of their access rules.
    var refusedOps: Int {
        nodes.indices.reduce(counted) { $0 + (ours($1).map(Self.refusals) ?? 0) }
    }

    private static func refusals(_ node: Node) -> Int {
        node.refused.forgedOps + node.refused.forbiddenServices + node.refused.forgedHosts
    }

    private func cut(_ connection: Connection) {
        let ids = connection.hosts.map { nodes.indices.contains($0) ? nodes[$0]?.hostID : nil }
        connection.cut()
        adversary?.sees(lostLinkBetween: connection.hosts, ids: ids)
    }

    private func crash(_ host: Int) {
        guard let node = nodes[host] else { return }
        for connection in internet.connections(of: host) { cut(connection) }
        counted += ours(host).map(Self.refusals) ?? 0
        nodes[host] = nil
        for post in posts[host] { post.cancel() }
        posts[host] = []
        node.crash()
    }

    private func perform(_ event: Event) {
        if case .post = event.kind {} else { world.note("EVENT \(event.kind)") }
        requests.check()
        switch event.kind {
        case .post(let post):
            guard let node = nodes[post.host] else { return }
            world.note("EVENT \(post)")
            posts[post.host].append(workload.post(post, through: node))
        case .stall(let host, let pick, let time):
            let connections = internet.connections(of: host)
            if !connections.isEmpty { connections[pick % connections.count].stall(for: time) }
        case .cut(let host, let pick):
            let connections = internet.connections(of: host)
            if !connections.isEmpty { cut(connections[pick % connections.count]) }
        case .crash(let host, let pause):
            crash(host)
            world.after(pause) { self.start(host) }
        case .isolate(let host, let time):
            internet.isolated.insert(host)
            for connection in internet.connections(of: host) { connection.stall(for: time) }
            world.after(time) { self.internet.isolated.remove(host) }
        case .bind(let host, let name):
            services[host].insert(name)
            nodes[host]?.bind(name) { self.workload.serve($0) }
        case .unbind(let host, let name):
            services[host].remove(name)
            nodes[host]?.unbind(name)
        case .request(let request):
            guard let node = nodes[request.host] else { return }
            posts[request.host].append(requests.post(request, through: node))
        case .cancelServed(let host, let pick): (nodes[host] as? OurNode)?.cancelServed(pick)
        case .serve(let host, let name):
            answers[host].insert(name)
            nodes[host]?.serve(name, for: requests)
        case .stopServing(let host, let name):
            answers[host].remove(name)
            nodes[host]?.stopServing(name)
        case .restrict(let host, let restriction, let time):
            restrict(host, restriction)
            world.after(time) { if self.restrictions[host] == restriction { self.restrict(host, nil) } }
        case .attack(let attack): adversary?.perform(attack)
        }
    }

    /// Ends all faults and starts all crashed hosts.
    func quieten() {
        world.note("QUIET")
        internet.isolated = []
        internet.tidy()
        for connection in internet.connections { connection.unstall() }
        for host in restrictions.keys.sorted() { restrict(host, nil) }
        for host in nodes.indices { start(host) }
        adversary?.goOn()
    }

    func ours(_ host: Int) -> Node? { (nodes[host] as? OurNode)?.node }

    /// Ends all nodes, so that nothing retains the world.
    func end() {
        adversary?.rest()
        for link in adversary?.links ?? [] { link.close() }
        for host in nodes.indices { crash(host) }
        world.run(until: world.now + 5 * World.second)
    }
}
