import ChanservHost

/// Renders the open requests of a host as a text table.
enum RequestsText {
    static func render(_ report: RequestsReport) -> String {
        guard !report.requests.isEmpty else { return "no open requests\n" }
        var text = TextTable.render(
            [["ID", "ROUTE", "CLIENT", "AGE", "SOURCES", "FRAMES", "BYTES", "STATE"]]
                + report.requests.map { request in
                    [
                        "\(request.id)", request.vaddr.visible, request.client.visible,
                        StatusText.age(request.ageMilliseconds), "\(request.sourcesOpen) / \(request.sourcesTotal)",
                        "\(request.frames)", "\(ByteCount(request.bytes))", state(request.state),
                    ]
                })
        let rest = report.total - report.requests.count
        if rest > 0 { text += "and \(rest) newer \(rest == 1 ? "request" : "requests")\n" }
        return text
    }

    private static func state(_ state: RequestsReport.Request.State) -> String {
        switch state {
        case .readingBody: "waiting for the request's body"
        case .waitingForPlugin: "waiting for the plugin"
        case .sending: "sending"
        case .waitingForClient: "waiting for the client"
        case .ending: "ending"
        }
    }
}
