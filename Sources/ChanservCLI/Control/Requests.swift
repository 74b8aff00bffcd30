import ArgumentParser
import ChanservHost

/// `chanserv requests`: the open requests of a running host.
struct Requests: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Lists the open requests of a running host.",
        discussion: """
            A request is open from when it was dialled until the last of its sources has ended. The oldest come first; \
            at most 10,000 are listed, and the others counted.

            COLUMNS
              ID          what 'chanserv cancel' takes
              CLIENT      the client's node and port on the mesh
              AGE         since it was dialled
              SOURCES     open, with those that the client has not taken / in all
              FRAMES, BYTES   sent so far, as they went over the wire
              STATE       what it waits for: the body of the request, the plugin (for its first source), the client \
            (which takes no more at the moment); sending; ending, when it was answered or cancelled and the plugin \
            still uses it

            With --watch the table is written every second (drawn anew on a terminal), until Ctrl-C. With --json it is \
            one object a line; docs/control.md says what is in it.

            Exits with 0, with 64 if there is no such route, or with 69 if no host answers.

            EXAMPLES
              chanserv requests
              chanserv requests quotes --watch
              chanserv requests --json | jq '.requests[] | select(.age_ms > 60000) | .id'
            """)

    @Argument(
        help: ArgumentHelp(
            "Only the requests of this virtual address, without the environment.", valueName: "vaddr"))
    var vAddr: String?

    @Flag(help: "Show them every second, until Ctrl-C.")
    var watch = false

    @OptionGroup var options: ControlOptions

    func validate() throws {
        if vAddr == "" { throw ValidationError("the virtual address is empty") }
    }

    func run() async throws {
        try await options.run { path in
            guard watch else {
                let request = ControlRequest.requests(vAddr, every: nil)
                return try show(try await ControlClient.ask(request, at: path, as: RequestsAnswer.self), after: "")
            }
            let request = ControlRequest.requests(vAddr, every: .seconds(1))
            try await options.watch(request, at: path, as: RequestsAnswer.self) { report, separator in
                try show(report, after: separator)
            }
        }
    }

    private func show(_ report: RequestsReport, after separator: String) throws {
        if options.json {
            try options.write(report)
        } else {
            try options.write(text: separator + RequestsText.render(report))
        }
    }
}
