import ChanservHost

/// Renders the links of a host as a text table.
enum LinksText {
    static func render(_ report: LinksReport) -> String {
        guard !report.links.isEmpty else { return "no links\n" }
        var text = TextTable.render(
            [["PEER", "NAME", "ADDRESS", "IDENTITY", "DIRECTION", "AGE", "STREAMS", "BUFFERED", "ROUND TRIP"]]
                + report.links.map { link in
                    let roundTrip = link.roundTripMilliseconds.map { MeshText.milliseconds(.milliseconds($0)) }
                    return [
                        link.peer.visible, link.name?.visible ?? "-", link.address.isEmpty ? "-" : link.address.visible,
                        link.identity?.visible ?? "-", link.direction.rawValue, StatusText.age(link.ageMilliseconds),
                        "\(link.streams)",
                        "\(ByteCount(link.bufferedBytes))", roundTrip ?? "-",
                    ]
                })
        let rest = report.total - report.links.count
        if rest > 0 { text += "and \(rest) newer \(rest == 1 ? "link" : "links")\n" }
        return text
    }
}
