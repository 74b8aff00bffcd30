import AstraNet
import NIOCore

/// How many round trips pass from a dial with its request to the first byte of the answer.
enum RoundTrips {
    struct Result {
        var path: String
        var roundTrips: Double
        /// `nil` where any number will do.
        var expected: Double?
    }

    /// One way, over each link.
    private static let latency = 50 * World.millisecond

    static func all() -> [Result] {
        let ours = NodeKind.ours(.peer)
        let goLike = NodeKind.goLike(.server)
        return [
            Result(path: "ours to ours", roundTrips: count(ours, ours), expected: 1),
            Result(path: "ours to Go-like", roundTrips: count(ours, goLike), expected: 2),
            Result(path: "Go-like to ours", roundTrips: count(.goLike(.client), ours), expected: 3),
            Result(
                path: "ours to ours through our router",
                roundTrips: count(.ours(.server), .ours(.server), router: .ours(.router)), expected: 2),
            Result(
                path: "ours to ours through a Go-like router",
                roundTrips: count(.ours(.server), .ours(.server), router: .goLike(.router)), expected: 2),
        ]
    }

    private static func count(_ client: NodeKind, _ server: NodeKind, router: NodeKind? = nil) -> Double {
        let world = World(seed: 1, isTraced: false)
        let kinds = [server, client] + (router.map { [$0] } ?? [])
        let internet = Internet(world: world, hostCount: kinds.count)
        internet.profile = .plain(latency: latency)
        for host in kinds.indices { internet.names["n\(host)"] = [host] }
        let hub = kinds.count == 3 ? 2 : 0
        let nodes = kinds.enumerated().map { host, kind -> any SimulatedNode in
            let plan = HostPlan(
                kind: kind, joins: host == hub ? [] : ["n\(hub)"], services: [], startsAt: 0)
            return kind.isOurs
                ? OurNode(plan, host: host, incarnation: 1, internet: internet)
                : GoLikeNode(plan, host: host, incarnation: 1, internet: internet)
        }
        nodes[0].bind("echo") { stream in
            world.task {
                do {
                    while let bytes = try await stream.receive(deadline: world.now + World.second) {
                        try await stream.send(bytes, deadline: world.now + World.second)
                    }
                } catch {
                    world.note("echo: \(error)")
                }
                stream.close()
            }
        }
        world.run(until: 5 * World.second)
        let clock = Stopwatch()
        let began = world.now
        world.task {
            do {
                let stream = try await nodes[1].dial(
                    "echo", first: ByteBuffer(string: "request"), deadline: began + 10 * World.second)
                _ = try await stream.receive(deadline: began + 10 * World.second)
                clock.nanoseconds = world.now - began
                stream.close()
            } catch {
                world.broken("echo: \(error)")
            }
        }
        world.run(until: began + 12 * World.second)
        for node in nodes { node.crash() }
        world.run(until: world.now + World.second)
        world.end()
        let hops: UInt64 = router == nil ? 1 : 2
        // Two turns of the event loop are no time, but the answer to a missing one must not be 0.
        guard let nanoseconds = clock.nanoseconds else { return .infinity }
        return Double(nanoseconds) / Double(2 * latency * hops)
    }

    /// `@unchecked Sendable`: see ``World``.
    private final class Stopwatch: @unchecked Sendable {
        var nanoseconds: UInt64?
    }
}
