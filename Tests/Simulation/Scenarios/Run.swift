import AstraNet
import Chanserv
import NIOCore

/// The run of one seed.
struct Run {
    var violation: String?
    var trace: [String]
    var digest: UInt64
    var posts: Int
    var failedPosts: Int
    var requests: Int
    var failedRequests: Int
    /// Virtual time at the end, nanoseconds.
    var ended: UInt64
    /// Time from the last fault until everything had converged, nanoseconds.
    var convergence: UInt64 = 0
    var isGuarded: Bool
    /// Ops of the adversary that reached nodes of this library, and those that these counted as refused.
    var hostileOps: Int
    var refusedOps: Int

    /// Maximum time from the last fault until everything has converged.
    private static let timeout = 200 * World.second

    init(_ plan: Plan, isTraced: Bool = false) {
        let world = World(seed: plan.seed, isTraced: isTraced)
        let mesh = Mesh(plan: plan, world: world)
        world.run(until: Plan.quietAt)
        mesh.quieten()
        convergence = Self.converge(mesh)
        Self.settleRequests(mesh)
        Self.finalPosts(mesh)
        Self.awaitRest(mesh)
        violation = world.violation
        trace = world.trace.lines
        digest = world.digest
        posts = mesh.workload.completed + mesh.workload.failed
        failedPosts = mesh.workload.failed
        requests = mesh.requests.completed + mesh.requests.failed
        failedRequests = mesh.requests.failed
        ended = world.now
        isGuarded = plan.guardPlan != nil
        hostileOps = world.hostiles.received
        refusedOps = mesh.refusedOps
        mesh.end()
        world.end()
    }

    private static func converge(_ mesh: Mesh) -> UInt64 {
        let world = mesh.world
        guard world.violation == nil else { return 0 }
        var problem: String?
        repeat {
            world.run(until: world.now + World.second)
            problem = Invariants(mesh: mesh).unconverged()
        } while problem != nil && world.now < Plan.quietAt + timeout && world.violation == nil
        if let problem { world.broken("not converged \(timeout / World.second) s after the last fault: \(problem)") }
        return world.now - Plan.quietAt
    }

    /// Waits for the end of the requests from the time of faults. One that hangs at a server would delay later
    /// requests.
    private static func settleRequests(_ mesh: Mesh) {
        let world = mesh.world
        let end = world.now + 120 * World.second
        while world.violation == nil, let problem = mesh.requests.unsettled() {
            if world.now >= end { return world.broken("120 s after the last fault \(problem)") }
            world.run(until: world.now + World.second / 2)
            mesh.requests.check()
        }
    }

    /// Checks that every node reaches every service that it knows.
    private static func finalPosts(_ mesh: Mesh) {
        let world = mesh.world
        guard world.violation == nil else { return }
        var id: UInt64 = 1_000_000
        var random = SeededRandom(world.seed, 9)
        for host in mesh.nodes.indices {
            guard let node = mesh.ours(host) else { continue }
            let names = Set(node.services.map(\.name)).sorted()
            for name in names where name.hasPrefix("service") {
                guard mesh.nodes.count < 8 || random.chance(200 / mesh.nodes.count) else { continue }
                id += 1
                let post = Post(
                    id: id, host: host, service: name, behaviour: .readsAtOnce, requestSize: random.pick(0...2_000),
                    answerSize: random.pick(0...5_000), seed: random.next())
                world.after(random.next() % World.second) {
                    mesh.workload.post(post, through: mesh.nodes[host]!) { outcome in
                        guard case .failed(let error) = outcome else { return }
                        world.broken("n\(host) cannot reach \(name) although there are no faults: \(error)")
                    }
                }
            }
        }
        finalRequests(mesh)
        world.run(until: world.now + 2 * World.second)
    }

    private static func finalRequests(_ mesh: Mesh) {
        let world = mesh.world
        var random = SeededRandom(world.seed, 23)
        var id: UInt64 = 0
        for host in mesh.nodes.indices {
            let ours = mesh.ours(host)
            let names = ours.map { Set($0.services.map(\.name)).sorted() } ?? mesh.plan.answers
            for name in names where name.hasPrefix("answers") && random.chance(200 / max(4, mesh.nodes.count)) {
                id += 1
                let request = SimulatedRequest.calm(id: id, host: host, name: name, &random)
                world.after(random.next() % World.second) {
                    mesh.requests.post(request, through: mesh.nodes[host]!) { outcome in
                        guard case .failed(let error) = outcome, ours != nil, !isBusy(error) else { return }
                        world.broken("n\(host) gets no answer from \(name) although there are no faults: \(error)")
                    }
                }
            }
        }
    }

    /// Whether the service refused the request for now. The refusal has no error code of its own at the client: its
    /// text begins with `busy: ` (`docs/protocol.md` §8).
    private static func isBusy(_ error: any Error) -> Bool {
        guard let error = error as? ChanservError, error.code == .refused || error.code == .sourceFailed else {
            return false
        }
        return error.message.contains("busy: ")
    }

    /// Waits until no posts and no resources are left.
    private static func awaitRest(_ mesh: Mesh) {
        let world = mesh.world
        mesh.adversary?.rest()
        if let problem = Invariants(mesh: mesh).uncounted() { world.broken(problem) }
        let end = world.now + 120 * World.second
        var problem: String?
        repeat {
            world.run(until: world.now + 2 * World.second)
            problem =
                !mesh.workload.open.isEmpty
                ? "posts hang: \(mesh.workload.open.sorted())"
                : Invariants(mesh: mesh).leftovers()
        } while problem != nil && world.now < end && world.violation == nil
        if let problem { world.broken(problem) }
    }
}
