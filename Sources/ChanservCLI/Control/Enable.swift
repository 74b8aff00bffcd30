import ArgumentParser
import ChanservHost

/// `chanserv enable`: ends a drain or a withdrawal of a route.
struct Enable: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Enables a drained or withdrawn route of a running host.",
        usage: "chanserv enable <vaddr> [<options>]",
        discussion: """
            The host offers the virtual address again at once. If the route is still draining, its open requests \
            continue. If failures have withdrawn the route, their count restarts at 0; further failures can withdraw \
            it again.

            Exit codes: 0 the route is enabled, also if it was before; 64 the host has no such route; 65 no control \
            socket is configured; 69 no host answers.

            EXAMPLES
              chanserv enable quotes
              chanserv enable quotes --config /etc/chanserv.yaml
            """)

    @OptionGroup var route: RouteArgument

    @OptionGroup var options: ControlOptions

    func run() async throws {
        try await options.run { path in
            let report = try await options.ask(.enable(route.vAddr), at: path, as: EnableAnswer.self)
            if options.json {
                try options.write(report)
            } else {
                try options.write(text: "\(report.vaddr) \(report.changed ? "is enabled" : "was already enabled")\n")
            }
        }
    }
}
