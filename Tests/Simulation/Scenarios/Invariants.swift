import AstraNet
import NIOCore

/// Conditions that must hold after the last fault.
struct Invariants {
    let mesh: Mesh

    private struct Offer: Hashable {
        var name: String
        var address: Address
        var isRelayed: Bool
    }

    /// The first condition on links and services that does not hold yet; `nil` if all hold.
    func unconverged() -> String? {
        mesh.internet.tidy()
        if let cut = mesh.internet.connections.first(where: { $0.isCutUndetected && !isOfAdversary($0) }) {
            return "an end of link \(cut.id) does not know that it was cut"
        }
        let linked = links()
        for host in mesh.nodes.indices {
            guard let node = mesh.ours(host) else { continue }
            if let problem = joins(of: host, linked) ?? duplicates(of: host) { return problem }
            let known = Set(
                node.services.map { Offer(name: $0.name, address: $0.address, isRelayed: $0.isRelayed) })
            let expected = expectedOffers(of: host, linked)
            let missing = expected.subtracting(known).map { "\($0)" }.sorted()
            let stale = known.subtracting(expected).filter { !mayStay($0) && !isIgnored($0) }.map { "\($0)" }.sorted()
            if !missing.isEmpty || !stale.isEmpty {
                return "n\(host) does not know \(missing) and still knows \(stale)"
            }
        }
        return nil
    }

    /// Whether a stale offer is allowed: the name of a source that was announced to this host alone. Only RST withdraws
    /// it if its server loses the link to the router. A Go-like router sends no RST if the server is back before the
    /// router detects the loss.
    private func mayStay(_ offer: Offer) -> Bool {
        mesh.requests.losesClientsSilently && offer.isRelayed && offer.name.utf8.count == Self.sourceNameLength
    }

    /// Whether the offer is of the adversary and has the form of a source's name. A node cannot know whether one of its
    /// requests expects the name. It dials such a name only at the host that has sent it.
    private func isIgnored(_ offer: Offer) -> Bool {
        mesh.world.hostiles.id != nil && offer.name.utf8.count == Self.sourceNameLength
            && mesh.adversary?.mayUse(offer.address.host) == true
    }

    /// The offers that a node still knows although its access rules allow them no more. Names of sources are allowed.
    func forbiddenOffers(of host: Int, _ restriction: GuardPlan.Restriction) -> [String] {
        let offers = mesh.ours(host)?.services.filter { $0.name.utf8.count != Self.sourceNameLength } ?? []
        return offers.filter { offer in
            switch restriction {
            case .noAnnouncement(let name): offer.name == name
            case .noRelay: offer.isRelayed
            case .noIdentity(let other): !offer.isRelayed && offer.address.host == mesh.nodes[other]?.hostID
            case .nothingAllowed: true
            }
        }.map(\.name)
    }

    /// Length of a UUID in bytes.
    private static let sourceNameLength = 36

    /// For each host, the hosts that it is linked with.
    private func links() -> [Set<Int>] {
        var linked: [Set<Int>] = mesh.nodes.map { _ in [] }
        for connection in mesh.internet.connections where connection.isUp && !isOfAdversary(connection) {
            linked[connection.hosts[0]].insert(connection.hosts[1])
            linked[connection.hosts[1]].insert(connection.hosts[0])
        }
        return linked
    }

    private func isOfAdversary(_ connection: Connection) -> Bool {
        connection.hosts.contains { $0 == mesh.world.hostiles.host }
    }

    private func expectedOffers(of host: Int, _ linked: [Set<Int>]) -> Set<Offer> {
        var offers: Set<Offer> = []
        func add(_ other: Int, isRelayed: Bool) {
            guard let node = mesh.nodes[other], mesh.plan.hosts[other].kind.role != .client else { return }
            for (name, port) in node.bound {
                offers.insert(
                    Offer(name: name, address: Address(host: node.hostID, port: port), isRelayed: isRelayed))
            }
        }
        for neighbour in linked[host] {
            add(neighbour, isRelayed: false)
            guard mesh.plan.hosts[neighbour].kind.role == .router else { continue }
            for other in linked[neighbour] where other != host { add(other, isRelayed: true) }
        }
        return offers
    }

    /// A host that `host` must join and has not joined.
    private func joins(of host: Int, _ linked: [Set<Int>]) -> String? {
        for name in mesh.plan.hosts[host].joins {
            for target in mesh.plan.names[name] ?? [] where target != host && mesh.internet.canReach(host, target) {
                if !linked[host].contains(target) { return "n\(host) has not joined n\(target)" }
            }
        }
        return nil
    }

    /// A link of the host to itself, or two links between two nodes of this library. (A router keeps a second link that
    /// has forwarded ops, because it cannot know whether streams still use it.)
    private func duplicates(of host: Int) -> String? {
        var seen: Set<Int> = []
        for connection in mesh.internet.connections
        where connection.isUp && connection.hosts.contains(host) && !isOfAdversary(connection) {
            let other = connection.hosts[0] == host ? connection.hosts[1] : connection.hosts[0]
            if other == host { return "n\(host) has a link to itself" }
            let hasRouter = [host, other].contains { mesh.plan.hosts[$0].kind.role == .router }
            if mesh.ours(other) != nil, !hasRouter, !seen.insert(other).inserted {
                return "n\(host) and n\(other) have two links"
            }
        }
        return nil
    }

    /// An op of the adversary that a node did not count as refused. Only links that are still up are considered, because
    /// a node drops what arrives on a closed link.
    func uncounted() -> String? {
        var expected: [Int: WireMonitor.HostileOps] = [:]
        for link in mesh.adversary?.links ?? [] where link.connection.isUp {
            expected[link.target, default: WireMonitor.HostileOps()].forged += link.connection.monitor.hostile.forged
            expected[link.target, default: WireMonitor.HostileOps()].services +=
                link.connection.monitor.hostile.services
        }
        for (host, ops) in expected.sorted(by: { $0.key < $1.key }) {
            guard let refused = mesh.ours(host)?.refused else { continue }
            if refused.forgedOps < ops.forged || refused.forbiddenServices < ops.services {
                return "n\(host) counted \(refused) of \(ops)"
            }
        }
        return nil
    }

    /// Resources that are still in use after all requests have ended.
    func leftovers() -> String? {
        if let problem = mesh.requests.unsettled() { return problem }
        for host in mesh.nodes.indices {
            guard let node = mesh.ours(host) else { continue }
            if node.bufferedBytes != 0 { return "n\(host) still holds \(node.bufferedBytes) bytes" }
            if node.streamCount != 0 { return "n\(host) still has \(node.streamCount) streams" }
            if node.reservedStreamSlots != 0 {
                return "n\(host) still has \(node.reservedStreamSlots) stream places taken"
            }
            if node.grantedBytes != 0 { return "n\(host) still grants \(node.grantedBytes) bytes to pushed sources" }
            let refused = node.listing.refused
            if refused.links + refused.services + refused.streams + refused.overfull > 0 {
                return "n\(host) refused something because of a limit: \(refused)"
            }
        }
        return nil
    }
}
