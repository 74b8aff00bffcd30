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

            With --wait the command ends when all versions on probation ('deploy.probation') have passed it, were \
            rolled back, or are held because there were too few requests to judge them.

            The command finds the host by 'control' under 'node' in its configuration, or by --socket.

            Exit codes: 0 success; 65 the reload was refused, a drop-in is wrong, a version was rolled back, or no \
            control socket is configured; 69 no host answers; 75 with --wait: a version was not judged.

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
            var isBad = report.result == .refused || !report.rejected.isEmpty || !report.rolledBack.isEmpty
            var isUnjudged = false
            if wait, report.result != .refused {
                let verdicts = try await verdicts(after: report.changes.repointed, at: path)
                isBad = isBad || verdicts.contains(.rolledBack)
                isUnjudged = verdicts.contains(.notJudged)
            }
            if isBad { throw ExitCode(65) }
            if isUnjudged { throw ExitCode(75) }
        }
    }

    /// A version that is waited for.
    private struct Version {
        var name: String
        var instance: UInt64
    }

    /// The end of the wait for one route.
    private enum Verdict {
        case stays, rolledBack
        /// The version is held, or was removed or replaced before it was judged.
        case notJudged
    }

    /// Waits until no route is on probation that was at the beginning. Prints each verdict on standard error.
    ///
    /// - Parameter repointed: the routes to which the reload has given another version.
    private func verdicts(after repointed: [String], at path: String) async throws -> [Verdict] {
        var versions: [String: Version]?
        var verdicts: [Verdict] = []
        while true {
            let status = try await options.ask(.status(every: nil), at: path, as: StatusAnswer.self)
            var waiting =
                versions
                ?? Dictionary(
                    status.routes.compactMap { route in
                        guard let deploy = route.deploy, deploy.state != .rolledBack || repointed.contains(route.vaddr)
                        else { return nil }
                        return (route.vaddr, Version(name: deploy.version, instance: deploy.instance))
                    }
                ) { first, _ in first }
            if status.stopping != nil, !waiting.isEmpty {
                StandardError.report("the host is stopping")
                throw ExitCode(69)
            }
            let routes = Dictionary(status.routes.map { ($0.vaddr, $0) }) { first, _ in first }
            for (vAddr, version) in waiting.sorted(by: { $0.key < $1.key }) {
                guard let (verdict, text) = Self.verdict(on: version, routes[vAddr]) else { continue }
                StandardError.report("route '\(vAddr.visible)': \(version.name.visible) \(text)")
                verdicts.append(verdict)
                waiting[vAddr] = nil
            }
            if waiting.isEmpty { return verdicts }
            versions = waiting
            try await Task.sleep(for: .milliseconds(500))
        }
    }

    /// Returns the verdict on a version that was on probation, with its text; `nil` while it still is.
    private static func verdict(on version: Version, _ route: HostStatus.Route?) -> (Verdict, String)? {
        guard let route else { return (.notJudged, "was not judged: the route was removed") }
        if let deploy = route.deploy, deploy.instance == version.instance {
            switch deploy.state {
            case .probation: return nil
            case .held: return (.notJudged, "is held on probation: too few requests")
            case .rolledBack: return (.rolledBack, "was rolled back: \((deploy.reason ?? "").visible)")
            }
        }
        return route.instance == version.instance
            ? (.stays, "stays") : (.notJudged, "was not judged: another version replaced it")
    }
}
