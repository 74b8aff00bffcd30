import ArgumentParser
import ChanservHost

/// `chanserv reload`: reloads a running host, as SIGHUP does, and reports the result.
struct Reload: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Reloads the configuration and the plugins of a running host.",
        usage: "chanserv reload [<options>]",
        discussion: """
            The whole reload takes effect, or none of it: after any error the host serves on as before. The command \
            waits for the result and prints the changes on standard output. Errors and warnings go to standard error. \
            A drop-in that is wrong is an error too, but the rest takes effect. \
            SIGHUP starts the same reload, but reports only to the host's log.

            With --dry-run the host reads the file and the plugins as for a reload, and tries new instances out in \
            short-lived processes. It prints what a reload would print, and has the same exit code.

            The command finds the host by 'control' under 'node' in its configuration, or by --socket.

            Exit codes: 0 success; 65 the reload was refused, a drop-in is wrong, or no control socket is configured; \
            69 no host answers.

            EXAMPLES
              chanserv reload
              chanserv reload --dry-run
              chanserv reload --config /etc/chanserv.yaml
              chanserv reload --socket /run/chanserv/chanserv.sock
              chanserv reload --json | jq .changes.repointed
            """)

    @Flag(help: "Change nothing: only report what a reload would change, or why it would be refused.")
    var dryRun = false

    @OptionGroup var options: ControlOptions

    func run() async throws {
        try await options.run { path in
            let report = try await options.ask(.reload(dryRun: dryRun), at: path, as: ReloadAnswer.self)
            for warning in report.warnings { StandardError.write("warning: \(warning)") }
            for reason in report.reasons + report.rejected { StandardError.report(reason) }
            if options.json { try options.write(report) } else { try options.write(text: report.text + "\n") }
            if report.result == .refused || !report.rejected.isEmpty { throw ExitCode(65) }
        }
    }
}
