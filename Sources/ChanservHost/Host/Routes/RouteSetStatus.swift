internal import Chanserv

/// The routes and instances of a host at one moment, see ``HostStatus``.
struct RouteSetStatus: Sendable {
    var generation: UInt64
    var requestsByGeneration: [HostStatus.Generation]
    var routes: [HostStatus.Route]
    var plugins: [HostStatus.Plugin]

    /// - Parameters:
    ///   - open: the open requests of the host.
    ///   - current: the instances of the routes.
    ///   - standbys: the instances to which routes on probation can return.
    ///   - draining: the instances that no route uses.
    init(
        generation: UInt64, open: OpenRequests, routes: [HostStatus.Route], current: [RunningInstance],
        standbys: [RunningInstance], draining: [RunningInstance]
    ) {
        self.generation = generation
        self.routes = routes
        requestsByGeneration = open.countByGeneration.sorted { $0.key < $1.key }.map {
            HostStatus.Generation(generation: $0.key, requests: $0.value)
        }
        plugins =
            current.map { HostStatus.Plugin($0, in: open, .current) }
            + standbys.map { HostStatus.Plugin($0, in: open, .standby) }
            + draining.map { HostStatus.Plugin($0, in: open, .draining) }
    }
}
