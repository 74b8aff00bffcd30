import ArgumentParser
import ChanservHost

/// `chanserv enable`: the other half of `chanserv drain`.
struct Enable: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Brings a route of a running host back that was drained, or withdrawn by its failures.",
        discussion: """
            The virtual address is offered again at once. Requests that were to end with a drain may go on. The failures \
            that withdrew a route are forgotten; if it goes on failing, it is withdrawn again.

            Exits with 0, also if the route was there all the time; 64 if there is no such route, 69 if no host answers.

            EXAMPLES
              chanserv enable quotes
              chanserv enable quotes --socket /run/chanserv/chanserv.sock --json
            """)

    @Argument(help: ArgumentHelp("The virtual address, without the environment.", valueName: "vaddr"))
    var vAddr: String

    @OptionGroup var options: ControlOptions

    func run() async throws {
        try await options.run { path in
            let report = try await ControlClient.ask(.enable(vAddr), at: path, as: EnableAnswer.self)
            if options.json {
                try options.write(report)
            } else {
                try options.write(text: report.changed ? "\(report.vaddr) is back\n" : "\(report.vaddr) was not away\n")
            }
        }
    }
}
