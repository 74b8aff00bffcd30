import ArgumentParser
import ChanservHost

/// `chanserv requests`: lists the open requests of a running host.
struct Requests: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Lists the open requests of a running host.",
        usage: "chanserv requests [<vaddr>] [<options>]",
        discussion: """
            A request is open until the last of its sources has ended. The list begins with the oldest request and has \
            at most 10,000 entries; a last line counts the others.

            COLUMNS
              ID       the argument of 'chanserv cancel'
              ROUTE    the virtual address
              CLIENT   the client's node and port on the mesh
              AGE      time since the client dialled
              SOURCES  open / total; open includes sources that
                       the client has not accepted yet
              FRAMES, BYTES
                       sent so far, as encoded on the wire
              STATE    waiting for the request's body, for the
                       plugin (no source yet) or for the client
                       (flow control); sending; ending: answered
                       or cancelled, but the plugin has not
                       closed the request yet

            With --watch, prints the table every second until Ctrl-C; on a terminal it redraws the table in place. \
            With --json, each table is one object on one line; docs/control.md describes it.

            Exit codes: 0 success; 64 the host has no such route; 65 no control socket is configured; 69 no host \
            answers.

            EXAMPLES
              chanserv requests
              chanserv requests quotes --watch
              chanserv requests --json | jq '.requests[] |
                select(.age_ms > 60000) | .id'
            """)

    @Argument(
        help: ArgumentHelp(
            "Only the requests of this virtual address, without its environment.", valueName: "vaddr"),
        transform: utf8Text)
    var vAddr: String?

    @Flag(help: "Print the table every second, until Ctrl-C.")
    var watch = false

    @OptionGroup var options: ControlOptions

    func validate() throws {
        if vAddr == "" { throw ValidationError("the virtual address is empty") }
    }

    func run() async throws {
        try await options.run { path in
            guard watch else {
                let request = ControlRequest.requests(vAddr, every: nil)
                return try show(try await options.ask(request, at: path, as: RequestsAnswer.self))
            }
            let request = ControlRequest.requests(vAddr, every: .seconds(1))
            try await options.watch(request, at: path, as: RequestsAnswer.self) {
                RequestsText.render($0)
            }
        }
    }

    private func show(_ report: RequestsReport) throws {
        if options.json {
            try options.write(report)
        } else {
            try options.write(text: RequestsText.render(report))
        }
    }
}
