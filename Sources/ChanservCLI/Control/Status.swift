import ArgumentParser
import ChanservHost

/// `chanserv status`: shows the state of a running host.
struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows the state of a running host.",
        usage: "chanserv status [<options>]",
        discussion: """
            Shows the routes, the plugins, the worker processes, the number of requests that older generations still \
            serve, and the last reload.

            COLUMNS OF ROUTES
              STATE     serving
                        withdrawn: by failures, for the given
                          time
                        probing: one request decides whether the
                          route returns
                        draining, drained: by 'chanserv drain'
              REQUESTS  open / total; a request is open until its
                        last source has ended
              REFUSED   requests refused because of a limit or a
                        withdrawn route
              SOURCES   open / total; open includes sources that
                        the client has not accepted yet
              FRAMES, BYTES
                        sent, as encoded on the wire
              FAILURES  in a row / total

            COLUMNS OF PLUGINS
              STATE     current; or old: no route uses it any
                        more, and it ends with its last request
              CALLS     open / total requests in the plugin
              OVERSTAYS
                        calls that exceeded their time budget

            Plugins with 'isolation: process' have a third table with one line per worker process.

            With --watch, prints the tables every second until Ctrl-C; on a terminal it redraws them in place. With \
            --json, each status is one object on one line; docs/control.md describes it.

            Exit codes: 0 success; 65 no control socket is configured; 69 no host answers.

            EXAMPLES
              chanserv status
              chanserv status --watch --config /etc/chanserv.yaml
              chanserv status --json | jq '.routes[] |
                select(.state != "serving") | .vaddr'
            """)

    @Flag(help: "Print the status every second, until Ctrl-C.")
    var watch = false

    @OptionGroup var options: ControlOptions

    func run() async throws {
        try await options.run { path in
            guard watch else {
                return try show(
                    try await options.ask(.status(every: nil), at: path, as: StatusAnswer.self))
            }
            try await options.watch(.status(every: .seconds(1)), at: path, as: StatusAnswer.self) {
                StatusText.render($0)
            }
        }
    }

    private func show(_ report: HostStatus) throws {
        if options.json {
            try options.write(report)
        } else {
            try options.write(text: StatusText.render(report))
        }
    }
}
