import AstraNet

/// One node's view of the mesh, grouped by host.
package struct MeshSnapshot: Sendable, Hashable {
    /// A link of the observing node.
    package struct Link: Sendable, Hashable {
        /// The peer's `ip:port`.
        var address: String
        /// The last measured round-trip time; `nil` if there is none yet.
        package var roundTrip: Duration?

        package init(address: String, roundTrip: Duration?) {
            self.address = address
            self.roundTrip = roundTrip
        }
    }

    package struct Service: Sendable, Hashable {
        /// The name. If an environment was selected, without its suffix.
        package var name: String
        /// Whether the host announces the service over a direct link.
        var isDirect: Bool
        /// The identities of the routers that announce the service, sorted.
        var routers: [String]
    }

    package struct Host: Sendable, Hashable {
        package var id: String
        /// Its configured name. Known only of hosts with a direct link; `nil` if there is none.
        package var name: String?
        /// The direct links to the host; empty if it is only reachable through routers.
        package var links: [Link]
        /// The services, sorted by name.
        package var services: [Service]

        package init(id: String, name: String? = nil, links: [Link], services: [Service]) {
            self.id = id
            self.name = name
            self.links = links
            self.services = services
        }
    }

    /// The hosts: first those with direct links, then the others, each sorted by identity.
    package var hosts: [Host]

    package init(hosts: [Host]) {
        self.hosts = hosts
    }

    /// - Parameters:
    ///   - listing: the links and services that the node knows.
    ///   - environment: the environment whose names are selected; `nil` for all names.
    package init(_ listing: MeshListing, environment: String?) {
        let suffix = environment.map { ".\($0)" } ?? ""
        var hosts: [HostID: Host] = [:]
        // The node learns a peer's identity only by connecting, so it can have a second link to the same address for a
        // moment. It closes that link soon.
        var places: Set<[String]> = []
        for link in listing.links where link.address.isEmpty || places.insert(["\(link.peer)", link.address]).inserted {
            hosts[link.peer, default: Host(id: "\(link.peer)", name: link.name, links: [], services: [])]
                .links.append(
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

    /// Returns the direct links to the host with this identity.
    func links(to host: String) -> [Link] { hosts.first { $0.id == host }?.links ?? [] }

    /// Whether every link has a measured round-trip time.
    var isMeasured: Bool { hosts.allSatisfy { $0.links.allSatisfy { $0.roundTrip != nil } } }

    /// This picture without round-trip times, which change all the time.
    var withoutRoundTrips: MeshSnapshot {
        MeshSnapshot(
            hosts: hosts.map { host in
                var host = host
                for index in host.links.indices { host.links[index].roundTrip = nil }
                return host
            })
    }
}
