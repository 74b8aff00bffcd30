import ArgumentParser
import ChanservHost

/// `chanserv drain`: takes a route off the mesh without touching the configuration.
struct Drain: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Takes a route of a running host off the mesh and lets its requests end.",
        discussion: """
            The virtual address is withdrawn at once, so that clients find another host. Requests that run, and those \
            that were dialled before, may go on for the route's 'drain' time (30s unless configured); what is left then \
            is cancelled. Waits until that is over; Ctrl-C ends the waiting, not the drain.

            The route stays configured. Neither a reload nor new code brings it back, as long as the configuration has \
            it; 'chanserv enable' does, also while it drains, and so does a new start of the host.

            Exits with 0 when the route has drained, 1 if it was enabled meanwhile or the host is stopping, 64 if there \
            is no such route, 69 if no host answers.

            EXAMPLES
              chanserv drain quotes
              chanserv drain quotes --config /etc/chanserv.yaml && systemctl stop chanserv
            """)

    @Argument(help: ArgumentHelp("The virtual address, without the environment.", valueName: "vaddr"))
    var vAddr: String

    @OptionGroup var options: ControlOptions

    func run() async throws {
        try await options.run { path in
            var last: DrainReport.Progress?
            let report = try await ControlClient.ask(.drain(vAddr), at: path, as: DrainAnswer.self) { progress in
                // For people who wait; nothing to wait for is no news.
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
        case .givenUp: "\(report.vaddr) is not drained: it was enabled meanwhile, or the host is stopping"
        }
    }

    private func count(_ number: Int, _ what: String) -> String { "\(number) \(what)\(number == 1 ? "" : "s")" }
}
