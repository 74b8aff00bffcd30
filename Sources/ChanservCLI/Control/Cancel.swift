import ArgumentParser
import ChanservHost

/// `chanserv cancel`: cancels one open request.
struct Cancel: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Cancels one open request of a running host.",
        usage: "chanserv cancel <id> [<options>]",
        discussion: """
            Ends the request and all of its sources. The client receives the error 'cancelled by the operator', \
            followed by the text of --reason. The cancellation does not count as a failure of the route.

            'chanserv requests' lists the open requests and their IDs. A host never reuses an ID.

            Exit codes: 0 cancelled; 1 the request is not open; 65 no control socket is configured; 69 no host answers.

            EXAMPLES
              chanserv cancel 4711
              chanserv cancel 4711 --reason 'maintenance, retry later'
            """)

    @Argument(help: ArgumentHelp("The ID of the request.", valueName: "id"))
    var id: UInt64

    @Option(
        help: ArgumentHelp("Text for the client's error message, at most 1,024 bytes.", valueName: "text"),
        transform: utf8Text)
    var reason: String?

    @OptionGroup var options: ControlOptions

    func validate() throws {
        let lengths = ControlRequest.reasonLengths
        if let reason, !lengths.contains(reason.utf8.count) {
            throw ValidationError("--reason must have from \(lengths.lowerBound) to \(lengths.upperBound) bytes")
        }
    }

    func run() async throws {
        try await options.run { path in
            let report = try await options.ask(.cancel(id, reason: reason), at: path, as: CancelAnswer.self)
            if options.json {
                try options.write(report)
            } else {
                try options.write(text: "request \(report.id) of \(report.vaddr.visible) is cancelled\n")
            }
        }
    }
}
