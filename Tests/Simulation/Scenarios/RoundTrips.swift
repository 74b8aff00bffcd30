import AstraNet
import NIOCore

/// Counts the round trips from a dial to the first byte of the answer, and from a chanserv request to the last byte of
/// an answer of one frame.
enum RoundTrips {
    struct Result {
        var path: String
        var roundTrips: Double
        /// `nil` if any number is allowed.
        var expected: Double?
    }

    /// Latency of each link in one direction.
    private static let latency = 50 * World.millisecond

    static func all() -> [Result] {
        let ours = NodeKind.ours(.peer)
        let goLike = NodeKind.goLike(.server)
        return requests() + [
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

    private static func requests() -> [Result] {
        let server = NodeKind.ours(.server)
        let ours = NodeKind.ours(.router)
        let goLike = NodeKind.goLike(.router)
        let direct = countRequests(server, nil, pushed: true)
        let named = countRequests(server, nil, pushed: false)
        let routed = countRequests(server, ours, pushed: true)
        let routedNamed = countRequests(server, ours, pushed: false)
        let goRouted = countRequests(server, goLike, pushed: true)
        let goServed = countRequests(.goLike(.server), nil, pushed: true)
        return [
            Result(path: "request, direct, first", roundTrips: direct[0], expected: 1),
            Result(path: "request, direct, second", roundTrips: direct[1], expected: 1),
            Result(path: "request through our router, first", roundTrips: routed[0], expected: 2),
            Result(path: "request through our router, second", roundTrips: routed[1], expected: 1),
            Result(path: "request through a Go-like router, first", roundTrips: goRouted[0], expected: 2),
            Result(path: "request through a Go-like router, second", roundTrips: goRouted[1], expected: 1),
            Result(path: "request, direct, named sources", roundTrips: named[0], expected: 2),
            Result(path: "request through our router, named sources", roundTrips: routedNamed[1], expected: 4),
            Result(path: "request to a Go-like server", roundTrips: goServed[1], expected: nil),
        ]
    }

    /// The round trips of a first and a second request.
    private static func countRequests(_ server: NodeKind, _ router: NodeKind?, pushed: Bool) -> [Double] {
        let world = World(seed: 1, isTraced: false)
        let nodes = mesh(.ours(.server), server, router, world)
        let workload = RequestWorkload(world: world)
        nodes[0].serve("answers", for: workload)
        world.run(until: 5 * World.second)
        let clock = Stopwatch()
        guard let client = nodes[1] as? OurNode else { return [] }
        for _ in 0..<2 {
            let began = world.now
            world.task {
                do {
                    clock.laps.append(try await client.roundTrip("answers", pushed: pushed, for: workload))
                } catch {
                    world.broken("round trip: \(error)")
                }
            }
            world.run(until: began + 5 * World.second)
        }
        if let violation = world.violation { say(violation) }
        end(nodes, world)
        let trip = Double(2 * latency * (router == nil ? 1 : 2))
        return (clock.laps + [0, 0]).map { $0 == 0 ? .infinity : Double($0) / trip }
    }

    private static func mesh(
        _ client: NodeKind, _ server: NodeKind, _ router: NodeKind?, _ world: World
    ) -> [any SimulatedNode] {
        let kinds = [server, client] + (router.map { [$0] } ?? [])
        let internet = Internet(world: world, hostCount: kinds.count)
        internet.profile = .plain(latency: latency)
        for host in kinds.indices { internet.names["n\(host)"] = [host] }
        let hub = kinds.count == 3 ? 2 : 0
        return kinds.enumerated().map { host, kind -> any SimulatedNode in
            let plan = HostPlan(
                kind: kind, joins: host == hub ? [] : ["n\(hub)"], services: [], startsAt: 0)
            return kind.isOurs
                ? OurNode(plan, host: host, incarnation: 1, internet: internet)
                : GoLikeNode(plan, host: host, incarnation: 1, internet: internet)
        }
    }

    private static func end(_ nodes: [any SimulatedNode], _ world: World) {
        for node in nodes { node.crash() }
        world.run(until: world.now + World.second)
        world.end()
    }

    private static func count(_ client: NodeKind, _ server: NodeKind, router: NodeKind? = nil) -> Double {
        let world = World(seed: 1, isTraced: false)
        let nodes = mesh(client, server, router, world)
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
        end(nodes, world)
        let hops: UInt64 = router == nil ? 1 : 2
        // Without an answer the result must not be 0.
        guard let nanoseconds = clock.nanoseconds else { return .infinity }
        return Double(nanoseconds) / Double(2 * latency * hops)
    }

    /// `@unchecked Sendable`: see ``World``.
    private final class Stopwatch: @unchecked Sendable {
        var nanoseconds: UInt64?
        var laps: [UInt64] = []
    }
}
