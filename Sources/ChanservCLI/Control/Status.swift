import ArgumentParser
import ChanservHost
import Glibc

/// `chanserv status`: what a running host does.
struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what a running host does: routes, plugins, requests, the last reload.",
        discussion: """
            COLUMNS OF ROUTES
              STATE       serving; withdrawn by its failures, and for how long; probing, when one request decides \
            whether it is back; draining or drained, by 'chanserv drain'
              REQUESTS    open / in all
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
            if watch { return try await watch(path) }
            try show(try await ControlClient.ask(.status(every: nil), at: path, as: StatusAnswer.self), page: "")
        }
    }

    private func watch(_ path: String) async throws {
        let redraws = isatty(STDOUT_FILENO) == 1 && !options.json
        let work = Task {
            var isFirst = true
            _ = try await ControlClient.ask(.status(every: .seconds(1)), at: path, as: StatusAnswer.self) { report in
                // Home, the tables, and nothing below them.
                try show(report, page: redraws ? "\u{1B}[H\u{1B}[2J" : isFirst || options.json ? "" : "\n")
                isFirst = false
            }
        }
        let signals = await SignalHandling(
            onReload: { work.cancel() }, onStop: { work.cancel() }, onEndNow: { _exit(0) })
        defer { signals.cancel() }
        do {
            try await work.value
        } catch is CancellationError {
            // Ctrl-C is how a watch is meant to end.
        } catch let error as SystemError where error.code == EPIPE {
            // Whoever read the tables does not any more.
        }
    }

    private func show(_ report: StatusReport, page: String) throws {
        if options.json { try options.write(report) } else { try options.write(text: page + StatusText.render(report)) }
    }
}
