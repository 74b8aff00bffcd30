import ArgumentParser
import ChanservHost

/// `chanserv status`: what a running host does.
struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what a running host does: routes, plugins, requests, the last reload.",
        discussion: """
            COLUMNS OF ROUTES
              STATE       serving; withdrawn by its failures, and for how long; probing, when one request decides \
            whether it is back; draining or drained, by 'chanserv drain'
              REQUESTS    open, until the last of their sources has ended / in all
              REFUSED     requests that were refused because of a limit, or because the route was withdrawn
              SOURCES     open, with those that wait for their client / in all
              FRAMES, BYTES   sent, as they went over the wire
              FAILURES    in a row / in all

            COLUMNS OF PLUGINS
              CALLS       open / in all: requests in the plugin's code
              OVERSTAYS   calls that took longer than their budget

            A plugin that is 'old' serves the requests it began with and ends with them. Plugins with 'isolation: process' \
            have a line for each process.

            With --watch the tables are written every second (drawn anew on a terminal), until Ctrl-C. With --json it is \
            one object a line; docs/control.md says what is in it.

            Exits with 0, or with 69 if no host answers.

            EXAMPLES
              chanserv status
              chanserv status --watch --config /etc/chanserv.yaml
              chanserv status --json | jq '.routes[] | select(.state != "serving") | .vaddr'
            """)

    @Flag(help: "Show it every second, until Ctrl-C.")
    var watch = false

    @OptionGroup var options: ControlOptions

    func run() async throws {
        try await options.run { path in
            guard watch else {
                return try show(
                    try await ControlClient.ask(.status(every: nil), at: path, as: StatusAnswer.self), after: "")
            }
            try await options.watch(.status(every: .seconds(1)), at: path, as: StatusAnswer.self) { report, separator in
                try show(report, after: separator)
            }
        }
    }

    private func show(_ report: StatusReport, after separator: String) throws {
        if options.json {
            try options.write(report)
        } else {
            try options.write(text: separator + StatusText.render(report))
        }
    }
}
