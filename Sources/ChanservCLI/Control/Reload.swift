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

            With --wait the command ends when the new versions of plugins have passed their probation \
            ('deploy.probation'), were rolled back, or are held because there were too few requests to judge them.

            The command finds the host by 'control' under 'node' in its configuration, or by --socket.

            Exit codes: 0 success; 65 the reload was refused, a drop-in is wrong, a version was rolled back, or no \
            control socket is configured; 69 no host answers; 75 with --wait: a version is held.

            EXAMPLES
              chanserv reload
              chanserv reload --dry-run
              chanserv reload --wait
              chanserv reload --config /etc/chanserv.yaml
              chanserv reload --socket /run/chanserv/chanserv.sock
              chanserv reload --json | jq .changes.repointed
            """)

    @Flag(help: "Change nothing: only report what a reload would change, or why it would be refused.")
    var dryRun = false

    @Flag(help: "Serve versions of plugins again that were rolled back.")
    var force = false

    @Flag(help: "Wait until the new versions of plugins have passed their probation or were rolled back.")
    var wait = false

    @OptionGroup var options: ControlOptions

    func validate() throws {
        if wait, dryRun { throw ValidationError("--wait does not go with --dry-run, which deploys nothing") }
    }

    func run() async throws {
        try await options.run { path in
            let report = try await options.ask(.reload(force: force, dryRun: dryRun), at: path, as: ReloadAnswer.self)
            for warning in report.warnings { StandardError.write("warning: \(warning)") }
            for reason in report.reasons + report.rejected + report.rolledBack { StandardError.report(reason) }
            if options.json { try options.write(report) } else { try options.write(text: report.text + "\n") }
            if report.result == .refused || !report.rejected.isEmpty || !report.rolledBack.isEmpty {
                throw ExitCode(65)
            }
            if wait { try await waitForVerdicts(on: Set(report.changes.repointed), at: path) }
        }
    }

    /// Waits until none of the routes is on probation. Prints each verdict on standard error.
    private func waitForVerdicts(on routes: Set<String>, at path: String) async throws {
        var (waiting, held, wasRolledBack) = (routes, false, false)
        while !waiting.isEmpty {
            let status = try await options.ask(.status(every: nil), at: path, as: StatusAnswer.self)
            let deploys = Dictionary(status.routes.map { ($0.vaddr, $0.deploy) }) { first, _ in first }
            for vAddr in waiting.sorted() {
                let name = vAddr.visible
                guard let deploy = deploys[vAddr] ?? nil else {
                    StandardError.write("route '\(name)': the new version stays")
                    waiting.remove(vAddr)
                    continue
                }
                switch deploy.state {
                case .probation: continue
                case .held:
                    held = true
                    StandardError.report("route '\(name)': \(deploy.version.visible) is held: too few requests")
                case .rolledBack:
                    wasRolledBack = true
                    let reason = (deploy.reason ?? "").visible
                    StandardError.report("route '\(name)': \(deploy.version.visible) was rolled back: \(reason)")
                }
                waiting.remove(vAddr)
            }
            if !waiting.isEmpty { try await Task.sleep(for: .milliseconds(500)) }
        }
        if wasRolledBack { throw ExitCode(65) }
        if held { throw ExitCode(75) }
    }
}
