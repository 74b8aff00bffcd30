import AstraNet

/// The mesh as one node sees it, arranged by host, ready to be shown.
struct MeshPicture: Sendable, Hashable {
    /// A link of the node that looks.
    struct Link: Sendable, Hashable {
        /// The other end's `ip:port`.
        var address: String
        /// The last round trip; `nil` while none was measured.
        var roundTrip: Duration?
    }

    struct Service: Sendable, Hashable {
        /// Without the environment's suffix, where one was asked for.
        var name: String
        /// Whether the host itself offers it over a link.
        var isDirect: Bool
        /// The routers through which it is offered, in order.
        var routers: [String]
    }

    struct Host: Sendable, Hashable {
        var id: String
        /// The links to it; none for one behind a router.
        var links: [Link]
        /// By name.
        var services: [Service]
    }

    /// By identity, those that are linked first.
    var hosts: [Host]

    init(hosts: [Host]) {
        self.hosts = hosts
    }

    /// - Parameters:
    ///   - listing: what the node knows.
    ///   - environment: only names in it; `nil` for all.
    init(_ listing: MeshListing, environment: String?) {
        let suffix = environment.map { ".\($0)" } ?? ""
        var hosts: [HostID: Host] = [:]
        // A second link to the same place is about to go: the node finds out who is there by connecting.
        var places: Set<[String]> = []
        for link in listing.links where link.address.isEmpty || places.insert(["\(link.peer)", link.address]).inserted {
            hosts[link.peer, default: Host(id: "\(link.peer)", links: [], services: [])].links.append(
                Link(address: link.address, roundTrip: link.roundTrip))
        }
        var services: [HostID: [String: Service]] = [:]
        for service in listing.services where service.offer.name.hasSuffix(suffix) {
            let name = String(service.offer.name.dropLast(suffix.count))
            let host = service.offer.address.host
            var entry = services[host]?[name] ?? Service(name: name, isDirect: false, routers: [])
            let router = "\(service.via)"
            if !service.offer.isRelayed {
                entry.isDirect = true
            } else if !entry.routers.contains(router) {
                entry.routers.append(router)
            }
            entry.routers.sort()
            services[host, default: [:]][name] = entry
        }
        for (host, offered) in services {
            hosts[host, default: Host(id: "\(host)", links: [], services: [])].services = offered.values.sorted {
                $0.name < $1.name
            }
        }
        self.hosts = hosts.values.sorted { ($0.links.isEmpty ? 1 : 0, $0.id) < ($1.links.isEmpty ? 1 : 0, $1.id) }
    }

    /// The links to the host of this identity.
    func links(to host: String) -> [Link] { hosts.first { $0.id == host }?.links ?? [] }

    /// Whether every link's round trip is known.
    var isMeasured: Bool { hosts.allSatisfy { $0.links.allSatisfy { $0.roundTrip != nil } } }

    /// Without the round trips, which are new all the time.
    var withoutRoundTrips: MeshPicture {
        MeshPicture(
            hosts: hosts.map { host in
                var host = host
                for index in host.links.indices { host.links[index].roundTrip = nil }
                return host
            })
    }
}
