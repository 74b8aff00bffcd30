import AstraNet
import NIOCore

/// One seed from its beginning to its end.
struct Run {
    var violation: String?
    var trace: [String]
    var digest: UInt64
    var posts: Int
    var failedPosts: Int
    /// Virtual time at the end, nanoseconds.
    var ended: UInt64
    /// From the last fault until everything had converged, nanoseconds.
    var convergence: UInt64 = 0

    /// So long after the last fault everything must be as it should.
    private static let patience = 200 * World.second

    init(_ plan: Plan, isTraced: Bool = false) {
        let world = World(seed: plan.seed, isTraced: isTraced)
        let mesh = Mesh(plan: plan, world: world)
        world.run(until: Plan.quietAt)
        mesh.quieten()
        convergence = Self.converge(mesh)
        Self.finalPosts(mesh)
        Self.rest(mesh)
        violation = world.violation
        trace = world.trace.lines
        digest = world.digest
        posts = mesh.workload.completed + mesh.workload.failed
        failedPosts = mesh.workload.failed
        ended = world.now
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
        } while problem != nil && world.now < Plan.quietAt + patience && world.violation == nil
        if let problem { world.broken("not converged \(patience / World.second) s after the last fault: \(problem)") }
        return world.now - Plan.quietAt
    }

    /// Everybody reaches everything that it knows of.
    private static func finalPosts(_ mesh: Mesh) {
        let world = mesh.world
        guard world.violation == nil else { return }
        var id: UInt64 = 1_000_000
        var random = SeededRandom(world.seed, 9)
        for host in mesh.nodes.indices {
            guard let node = mesh.ours(host) else { continue }
            let names = Set(node.services.map(\.name)).sorted()
            for name in names where mesh.nodes.count < 8 || random.chance(200 / mesh.nodes.count) {
                id += 1
                let post = Post(
                    id: id, host: host, service: name, behaviour: .patient, requestSize: random.pick(0...2_000),
                    answerSize: random.pick(0...5_000), seed: random.next())
                world.after(random.next() % World.second) {
                    mesh.workload.post(post, through: mesh.nodes[host]!) { outcome in
                        guard case .failed(let error) = outcome else { return }
                        world.broken("n\(host) cannot reach \(name) although nothing breaks: \(error)")
                    }
                }
            }
        }
        world.run(until: world.now + 2 * World.second)
    }

    /// Everything ends.
    private static func rest(_ mesh: Mesh) {
        let world = mesh.world
        let end = world.now + 120 * World.second
        var problem: String?
        repeat {
            world.run(until: world.now + 2 * World.second)
            problem =
                mesh.workload.open.isEmpty
                ? Invariants(mesh: mesh).leftovers() : "posts hang: \(mesh.workload.open.sorted())"
        } while problem != nil && world.now < end && world.violation == nil
        if let problem { world.broken(problem) }
    }
}
