import ArgumentParser
import ChanservHost

/// `chanserv drain`: withdraws a route from the mesh without a change of the configuration.
struct Drain: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Withdraws a route of a running host and waits for its requests.",
        usage: "chanserv drain <vaddr> [<options>]",
        discussion: """
            Withdraws the virtual address at once, so that new requests go to other hosts. Open requests may continue \
            for the route's 'drain' time (default 30s); the host cancels the rest. The command waits for the end of \
            the drain. Ctrl-C ends only the command, not the drain.

            Reloads keep the route drained. 'chanserv enable' or a restart of the host brings it back, and so does a \
            reload that removes the route followed by one that adds it again.

            EXIT CODES
              0    the route is drained
              1    the route was enabled again, or the host is
                   stopping
              64   the host has no such route
              65   no control socket is configured
              69   no host answers

            EXAMPLES
              chanserv drain quotes
              chanserv drain quotes && systemctl stop chanserv
            """)

    @OptionGroup var route: RouteArgument

    @OptionGroup var options: ControlOptions

    func run() async throws {
        try await options.run { path in
            var last: DrainReport.Progress?
            let report = try await options.ask(.drain(route.vAddr), at: path, as: DrainAnswer.self) { progress in
                // A repeated or empty progress line would tell the operator nothing new.
                if progress != last, progress.requests + progress.sources > 0 {
                    StandardError.write(
                        "waiting for \(count(progress.requests, "request")) and \(count(progress.sources, "source"))")
                }
                last = progress
            }
            if options.json { try options.write(report) } else { try options.write(text: Self.text(report) + "\n") }
            if report.result == .givenUp { throw ExitCode(1) }
        }
    }

    static func text(_ report: DrainReport) -> String {
        switch report.result {
        case .drained where report.cancelled > 0:
            "\(report.vaddr) is drained; \(report.cancelled) requests did not end in time and were cancelled"
        case .drained: "\(report.vaddr) is drained"
        case .givenUp: "\(report.vaddr) is not drained: it was enabled again, or the host is stopping"
        }
    }

    private func count(_ number: Int, _ what: String) -> String { "\(number) \(what)\(number == 1 ? "" : "s")" }
}
