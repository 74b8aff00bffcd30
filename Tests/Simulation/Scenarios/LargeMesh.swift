import AstraNet
import Glibc

/// Measures the cost of 1,000 nodes behind 10 routers. Each node is linked with two routers and has one service.
enum LargeMesh {
    private static let routers = 10
    private static let servers = 1_000
    private static let latency = 10 * World.millisecond

    static func run() {
        let world = World(seed: 1, isTraced: false)
        let count = routers + servers
        let internet = Internet(world: world, hostCount: count)
        internet.profile = .plain(latency: latency)
        for host in 0..<count { internet.names["n\(host)"] = [host] }
        let homes = (0..<count).map {
            $0 < routers ? [] : [$0 % routers, ($0 % routers + 1 + $0 / routers % 9) % routers]
        }
        let members = (0..<routers).map { router in homes.count { $0.contains(router) } }
        func start(_ host: Int, _ incarnation: Int) -> OurNode {
            let plan = HostPlan(
                kind: .ours(host < routers ? .router : .server), joins: homes[host].map { "n\($0)" }, services: [],
                startsAt: 0)
            return OurNode(plan, host: host, incarnation: incarnation, internet: internet)
        }
        var nodes = (0..<count).map { start($0, 1) }

        /// Waits until every server knows all services at its routers that are up. Returns the time in milliseconds.
        func settle(without dead: Int? = nil, _ phase: String) -> UInt64 {
            let began = world.now
            while world.now < began + 300 * World.second, world.violation == nil {
                let isSettled = (routers..<count).allSatisfy { host in
                    let up = homes[host].filter { $0 != dead }
                    return nodes[host].node.linkCount == up.count
                        && nodes[host].node.offerCount == up.reduce(0) { $0 + members[$1] - 1 }
                }
                if isSettled { return (world.now - began) / World.millisecond }
                world.run(until: world.now + World.millisecond)
            }
            world.broken("\(phase): not settled in 300 s")
            return .max
        }

        world.run(until: 20 * World.second)
        let linked = (routers..<count).allSatisfy { nodes[$0].node.linkCount == 2 }
        if !linked { world.broken("not all servers have two links after 20 s") }
        let emptyMemory = residentBytes()
        let before = announcements(internet)
        for host in routers..<count { nodes[host].bind("service-\(host)") { $0.close() } }
        let announced = settle("announcing")
        let memory = residentBytes() - emptyMemory
        let after = announcements(internet)
        let entries = nodes.reduce(0) { $0 + $1.node.offerCount }

        for connection in internet.connections(of: 0) { connection.cut(isDetectedAtOnce: true) }
        nodes[0].crash()
        let withdrawn = settle(without: 0, "after the loss of a router")
        world.run(until: world.now + 10 * World.second)
        nodes[0] = start(0, 2)
        let back = settle("after the return of a router")

        let received = Double(after.byRouters - before.byRouters) / Double(servers)
        let relayed = Double(after.byRouters - before.byRouters) / Double(routers)
        let sent = Double(after.byServers - before.byServers) / Double(servers)
        say(
            "\(servers) nodes with one service each, each linked with 2 of \(routers) routers "
                + "(\(members.min() ?? 0)-\(members.max() ?? 0) nodes per router), "
                + "latency \(latency / World.millisecond) ms one way"
        )
        say("  announcements: each node sends \(sent) and receives \(received); each router sends \(relayed)")
        say(
            "  registries: \(entries) entries, \(memory / max(1, entries)) bytes each "
                + "(memory growth of the process: \(memory >> 20) MiB)"
        )
        say("  \(announced) ms after the services were bound, every node knows all services that it can reach")
        say("  \(withdrawn) ms after the loss of a router, no node knows a service through it")
        say("  \(back) ms after its return (10 s later), every node has joined it and knows all services again")
        if let violation = world.violation {
            say("FAILS: \(violation)")
            exit(1)
        }
    }

    private static func announcements(_ internet: Internet) -> (byRouters: Int, byServers: Int) {
        var sums = (byRouters: 0, byServers: 0)
        for connection in internet.connections {
            for side in 0...1 {
                let count = connection.monitor.announcements[side]
                if connection.hosts[side] < routers { sums.byRouters += count } else { sums.byServers += count }
            }
        }
        return sums
    }

    private static func residentBytes() -> Int {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        guard fgets(&line, 256, file) != nil else { return 0 }
        let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let fields = text.split(separator: " ")
        return fields.count > 1 ? (Int(fields[1]) ?? 0) * Int(getpagesize()) : 0
    }
}
