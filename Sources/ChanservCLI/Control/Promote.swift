import ArgumentParser
import ChanservHost

/// `chanserv promote`: ends the probation of a route.
struct Promote: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Ends the probation of the new version of a route's plugin: it stays.",
        usage: "chanserv promote <vaddr> [<options>]",
        discussion: """
            For a version that is held because there were too few requests to judge it, or that need not be judged \
            any longer. The version before is destroyed.

            Exit codes: 0 the new version stays; 1 the route is not on probation; 64 the host has no such route; 65 \
            no control socket is configured; 69 no host answers, or a reload is running.

            EXAMPLES
              chanserv promote quotes
            """)

    @OptionGroup var route: RouteArgument

    @OptionGroup var options: ControlOptions

    func run() async throws {
        try await options.run { path in
            let report = try await options.ask(.promote(route.vAddr), at: path, as: DeployAnswer.self)
            if options.json {
                try options.write(report)
            } else {
                try options.write(text: "\(report.vaddr.visible) stays at \(report.version.visible)\n")
            }
        }
    }
}
