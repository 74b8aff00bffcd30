/// Renders the mesh as a text table.
package enum MeshText {
    /// Returns a table with one line per service, and one line per linked host without services.
    package static func render(_ picture: MeshSnapshot) -> String {
        guard !picture.hosts.isEmpty else { return "no nodes are linked\n" }
        var rows = [["HOST", "SERVICE", "PATH", "ADDRESS", "ROUND TRIP"]]
        for host in picture.hosts {
            let id = host.name.map { "\(host.id) (\($0.visible))" } ?? host.id
            if host.services.isEmpty { rows.append([id, "-", "direct"] + linkCells(host.links)) }
            for service in host.services {
                let dialLinks = links(of: service, host, picture)
                rows.append([id, service.name.visible, path(service)] + linkCells(dialLinks))
            }
        }
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            let cells = zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
            return cells.joined(separator: "  ").trimmingTrailingSpaces + "\n"
        }.joined()
    }

    private static func path(_ service: MeshSnapshot.Service) -> String {
        let routers = service.routers.isEmpty ? [] : ["via \(service.routers.joined(separator: ", "))"]
        return ((service.isDirect ? ["direct"] : []) + routers).joined(separator: ", ")
    }

    /// Returns the links that a dial of the service can use.
    private static func links(
        of service: MeshSnapshot.Service, _ host: MeshSnapshot.Host, _ picture: MeshSnapshot
    ) -> [MeshSnapshot.Link] {
        service.isDirect ? host.links : service.routers.flatMap { picture.links(to: $0) }
    }

    private static func linkCells(_ links: [MeshSnapshot.Link]) -> [String] {
        let addresses = links.map { $0.address.isEmpty ? "-" : $0.address }
        return [
            addresses.isEmpty ? "-" : addresses.joined(separator: ", "),
            links.first?.roundTrip.map(milliseconds) ?? "-",
        ]
    }

    /// Formats a round-trip time with two or three significant digits, such as `0.18 ms`, `12.4 ms` or `250 ms`.
    package static func milliseconds(_ duration: Duration) -> String {
        let micros = Int((duration / .microseconds(1)).rounded())
        switch micros {
        case ..<10_000: return "\(fixed(micros / 10, 2)) ms"
        case ..<100_000: return "\(fixed(micros / 100, 1)) ms"
        default: return "\(micros / 1_000) ms"
        }
    }

    /// Returns `value` with a decimal point before its last `digits` digits.
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
