import ArgumentParser
import ChanservHost

/// `chanserv rollback`: returns a route on probation to the version before.
struct Rollback: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Returns a route of a running host to the version of its plugin before the last reload.",
        usage: "chanserv rollback <vaddr> [<options>]",
        discussion: """
            The version before is ready while the new one is on probation ('deploy.probation' of the route). It serves \
            new requests at once; open requests of the new version continue for the route's 'drain' time. Reloads \
            leave the new version out until its file or configuration changes, or 'chanserv reload --force'.

            Exit codes: 0 the version before serves; 1 no version before is ready; 64 the host has no such route; 65 \
            no control socket is configured; 69 no host answers, or a reload is running.

            EXAMPLES
              chanserv rollback quotes
              chanserv rollback quotes --config /etc/chanserv.yaml
            """)

    @OptionGroup var route: RouteArgument

    @OptionGroup var options: ControlOptions

    func run() async throws {
        try await options.run { path in
            let report = try await options.ask(.rollback(route.vAddr), at: path, as: DeployAnswer.self)
            if options.json {
                try options.write(report)
            } else {
                try options.write(text: "\(report.vaddr.visible) has returned to \(report.version.visible)\n")
            }
        }
    }
}
