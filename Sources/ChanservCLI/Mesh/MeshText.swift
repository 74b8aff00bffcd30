/// The mesh as a table for people.
enum MeshText {
    /// A line for each service, and one for each host that is linked and offers none; columns as wide as they need to be.
    static func render(_ picture: MeshPicture) -> String {
        guard !picture.hosts.isEmpty else { return "nobody is linked\n" }
        var rows = [["HOST", "SERVICE", "PATH", "ADDRESS", "ROUND TRIP"]]
        for host in picture.hosts {
            if host.services.isEmpty { rows.append([host.id, "-", "direct"] + way(host.links)) }
            for service in host.services {
                rows.append([host.id, service.name.visible, path(service)] + way(links(of: service, host, picture)))
            }
        }
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            let cells = zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
            return cells.joined(separator: "  ").trimmingTrailingSpaces + "\n"
        }.joined()
    }

    private static func path(_ service: MeshPicture.Service) -> String {
        let routers = service.routers.isEmpty ? [] : ["via \(service.routers.joined(separator: ", "))"]
        return ((service.isDirect ? ["direct"] : []) + routers).joined(separator: ", ")
    }

    /// The links a dial of the service would go over.
    private static func links(
        of service: MeshPicture.Service, _ host: MeshPicture.Host, _ picture: MeshPicture
    ) -> [MeshPicture.Link] {
        service.isDirect ? host.links : service.routers.flatMap { picture.links(to: $0) }
    }

    private static func way(_ links: [MeshPicture.Link]) -> [String] {
        let addresses = links.map { $0.address.isEmpty ? "-" : $0.address }
        return [
            addresses.isEmpty ? "-" : addresses.joined(separator: ", "),
            links.first?.roundTrip.map(milliseconds) ?? "-",
        ]
    }

    /// `0.18 ms`, `12.4 ms`, `250 ms`: three digits say enough.
    static func milliseconds(_ duration: Duration) -> String {
        let micros = Int((duration / .microseconds(1)).rounded())
        switch micros {
        case ..<10_000: return "\(fixed(micros / 10, 2)) ms"
        case ..<100_000: return "\(fixed(micros / 100, 1)) ms"
        default: return "\(micros / 1_000) ms"
        }
    }

    /// `value` with its last `digits` digits behind a point.
    private static func fixed(_ value: Int, _ digits: Int) -> String {
        let text = String(value)
        let padded = String(repeating: "0", count: max(0, digits + 1 - text.count)) + text
        return "\(padded.dropLast(digits)).\(padded.suffix(digits))"
    }
}

extension String {
    fileprivate var trimmingTrailingSpaces: Substring {
        var end = endIndex
        while end > startIndex, self[index(before: end)] == " " { end = index(before: end) }
        return self[..<end]
    }
}
