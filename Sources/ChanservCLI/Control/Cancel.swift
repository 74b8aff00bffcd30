import ArgumentParser
import ChanservHost

/// `chanserv cancel`: ends one open request.
struct Cancel: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Ends one open request of a running host.",
        discussion: """
            The request ends with all of its sources. Its client gets an error that says that the operator cancelled \
            it, and why, if --reason says so. This is no failure of the route.

            'chanserv requests' lists the open requests with their numbers. A number is never used again while the \
            host runs.

            Exits with 0, with 1 if no such request is open, or with 69 if no host answers.

            EXAMPLES
              chanserv cancel 4711
              chanserv cancel 4711 --reason 'maintenance, please post again'
            """)

    @Argument(help: ArgumentHelp("The number of the request.", valueName: "id"))
    var id: UInt64

    @Option(help: ArgumentHelp("What the client is told, at most 1,024 bytes.", valueName: "text"))
    var reason: String?

    @OptionGroup var options: ControlOptions

    func validate() throws {
        let lengths = ControlRequest.reasonLengths
        if let reason, !lengths.contains(reason.utf8.count) {
            throw ValidationError("--reason has from \(lengths.lowerBound) to \(lengths.upperBound) bytes")
        }
    }

    func run() async throws {
        try await options.run { path in
            let report = try await ControlClient.ask(.cancel(id, reason: reason), at: path, as: CancelAnswer.self)
            if options.json {
                try options.write(report)
            } else {
                try options.write(text: "request \(report.id) of \(report.vaddr.visible) is cancelled\n")
            }
        }
    }
}
