import ChanservHost
import HostConfiguration

/// Renders the status of a host as text tables.
enum StatusText {
    static func render(_ report: HostStatus) -> String {
        let listening = report.listening.isEmpty ? "nowhere" : "on \(report.listening.joined(separator: ", "))"
        var text = "host \(report.pid), up \(age(report.uptimeMilliseconds)), generation \(report.generation), "
        text += "listening \(listening)\n"
        if let id = report.host {
            text += "id on the mesh: \(id.visible)\(report.name.map { " (\($0.visible))" } ?? "")\n"
        }
        if let stop = report.stopping { text += stopping(stop) }
        if let last = report.lastReload { text += reload(last) }
        text += "\n" + TextTable.render(routes(report.routes))
        let deploys = deploys(report.routes)
        if deploys.count > 1 { text += "\n" + TextTable.render(deploys) }
        if !report.plugins.isEmpty { text += "\n" + TextTable.render(plugins(report.plugins)) }
        if !report.dropIns.isEmpty { text += "\n" + TextTable.render(dropIns(report.dropIns)) }
        let workers = workers(report.plugins)
        if workers.count > 1 { text += "\n" + TextTable.render(workers) }
        let generations = report.requestsByGeneration.filter { $0.generation != report.generation }
        if !generations.isEmpty {
            let parts = generations.map { "\($0.requests) of generation \($0.generation)" }
            text += "\nolder requests: \(parts.joined(separator: ", "))\n"
        }
        if !report.certificates.isEmpty { text += "\n" + TextTable.render(certificates(report.certificates)) }
        if let refused = report.linkRefusals, let line = refusals(refused) { text += "\nrefused on links: \(line)\n" }
        if let log = report.accessLog, log.lost > 0 {
            text += "\naccess log \(log.path.visible): \(log.lost) of \(log.lost + log.written) lines were lost\n"
        }
        let (copies, reloads) = (report.retained.copies, report.reloads)
        text += "\nlibraries in memory: \(copies), \(ByteCount(report.retained.bytes)); reloads: "
        text += "\(reloads.changed) changed, \(reloads.unchanged) unchanged, \(reloads.refused) refused\n"
        return text
    }

    private static func certificates(_ certificates: [HostStatus.Certificate]) -> [[String]] {
        [["CERTIFICATE", "USE", "SERIAL", "EXPIRES"]]
            + certificates.map { certificate in
                [
                    certificate.file.visible, "\(certificate.use.rawValue) \(certificate.address.visible)",
                    certificate.serial, certificate.expiry,
                ]
            }
    }

    /// Returns the counts that are not 0; `nil` if all are.
    private static func refusals(_ refused: HostStatus.LinkRefusals) -> String? {
        let counts = [
            (refused.links, "links"), (refused.streams, "streams"), (refused.services, "services"),
            (refused.overfull, "overfull streams"), (refused.insecure, "insecure connections"),
            (refused.forgedHosts, "forged host ids"), (refused.forgedOps, "forged messages"),
            (refused.forbiddenServices, "services that are not allowed"),
        ].filter { $0.0 > 0 }.map { "\($0.0) \($0.1)" }
        return counts.isEmpty ? nil : counts.joined(separator: ", ")
    }

    private static func stopping(_ stop: HostStatus.Stopping) -> String {
        let elapsed = ValueGrammar.text(.seconds(stop.elapsedMilliseconds / 1_000))
        let drain = ValueGrammar.text(.milliseconds(stop.drainMilliseconds))
        let requests = "\(stop.requestsOpen) open \(stop.requestsOpen == 1 ? "request" : "requests")"
        let cause = stop.successor.map { "replaced by process \($0)" } ?? "stopping"
        return "\(cause) for \(elapsed), up to \(drain) for \(requests)\n"
    }

    private static func reload(_ last: HostStatus.LastReload) -> String {
        let lines =
            last.outcome.reasons + last.outcome.rejected + last.outcome.rolledBack
            + last.outcome.warnings.map { "warning: \($0)" }
        return "last reload \(age(last.ageMilliseconds)) ago: \(last.outcome.text)\n"
            + lines.map { "  \($0.visible)\n" }.joined()
    }

    private static func routes(_ routes: [HostStatus.Route]) -> [[String]] {
        [["ROUTE", "PLUGIN", "STATE", "REQUESTS", "REFUSED", "SOURCES", "FRAMES", "BYTES", "FAILURES"]]
            + routes.map { route in
                [
                    route.vaddr.visible, "\(route.plugin.visible)@\(route.digest.prefix(8))", state(route),
                    "\(route.requestsOpen) / \(route.requestsTotal)", refused(route),
                    "\(route.sourcesOpen + route.sourcesWaiting) / \(route.sourcesTotal)", "\(route.frames)",
                    "\(ByteCount(route.bytes))", "\(route.errorMass) / \(route.failures)",
                ]
            }
    }

    /// Returns the number of refused requests, by reason if there are any: `2 busy, 1 withdrawn`.
    private static func refused(_ route: HostStatus.Route) -> String {
        let total = route.requestsRefused
        let counts = route.refused
        let reasons = [
            (counts.busy, "busy"), (counts.withdrawn, "withdrawn"), (counts.draining, "draining"),
            (counts.denied, "not allowed"), (counts.quota, "over quota"),
        ].filter { $0.0 > 0 }.map { "\($0.0) \($0.1)" }
        return reasons.isEmpty ? "\(total)" : reasons.joined(separator: ", ")
    }

    private static func state(_ route: HostStatus.Route) -> String {
        guard let left = route.withdrawnMilliseconds else { return route.state.rawValue }
        return "\(route.state.rawValue) for \(age(left))"
    }

    private static func deploys(_ routes: [HostStatus.Route]) -> [[String]] {
        [["DEPLOYMENT", "VERSION", "STATE", "SINCE", "RESULTS", "BEFORE", "RESULTS BEFORE", "REASON"]]
            + routes.compactMap { route in
                guard let deploy = route.deploy else { return nil }
                return [
                    route.vaddr.visible, deploy.version.visible, deploy.state.rawValue, age(deploy.sinceMilliseconds),
                    results(deploy.results), deploy.previous.visible, results(deploy.previousResults),
                    deploy.reason?.visible ?? "-",
                ]
            }
    }

    /// Formats results, such as `312 good, 2 failed, 1.5 ms`.
    private static func results(_ results: HostStatus.Deploy.Results?) -> String {
        guard let results else { return "-" }
        let median = results.medianMilliseconds.map { ", \(($0 * 10).rounded() / 10) ms" } ?? ""
        return "\(results.succeeded) good, \(results.failed) failed\(median)"
    }

    private static func plugins(_ plugins: [HostStatus.Plugin]) -> [[String]] {
        [["PLUGIN", "VERSION", "STATE", "CALLS", "SOURCES", "FRAMES", "OVERSTAYS"]]
            + plugins.map { plugin in
                [
                    "\(plugin.plugin.visible)@\(plugin.digest.prefix(8))", plugin.version.visible,
                    plugin.draining ? "old" : plugin.standby ? "standby" : "current",
                    "\(plugin.callsOpen) / \(plugin.callsTotal)", "\(plugin.sourcesOpen)", "\(plugin.frames)",
                    "\(plugin.overstays)",
                ]
            }
    }

    private static func dropIns(_ dropIns: [HostStatus.DropIn]) -> [[String]] {
        [["DROP-IN", "STATE", "SINCE", "REASON"]]
            + dropIns.map { dropIn in
                [
                    dropIn.name.visible, dropIn.state.rawValue, age(dropIn.sinceMilliseconds),
                    dropIn.reasons.isEmpty ? "-" : dropIn.reasons.joined(separator: "; ").visible,
                ]
            }
    }

    private static func workers(_ plugins: [HostStatus.Plugin]) -> [[String]] {
        [["WORKER", "PID", "STATE", "REQUESTS", "RESTARTS", "LAST END"]]
            + plugins.flatMap { plugin in
                plugin.workers.map { worker in
                    let left = worker.pausingMilliseconds.map { " for \(age($0))" } ?? ""
                    return [
                        "\(plugin.plugin.visible)@\(plugin.digest.prefix(8))", worker.pid.map { "\($0)" } ?? "-",
                        worker.state.rawValue + left, "\(worker.requestsOpen)", "\(worker.restarts)",
                        worker.lastEnd.map(\.visible) ?? "-",
                    ]
                }
            }
    }

    /// Formats a time span, such as `850 ms`, `12 s`, `3 min 20 s`, `5 h 2 min` or `12 d 3 h`.
    static func age(_ milliseconds: Int) -> String {
        let seconds = milliseconds / 1_000
        switch seconds {
        case ..<1: return "\(milliseconds) ms"
        case ..<60: return "\(seconds) s"
        case ..<3_600: return "\(seconds / 60) min \(seconds % 60) s"
        case ..<86_400: return "\(seconds / 3_600) h \(seconds / 60 % 60) min"
        default: return "\(seconds / 86_400) d \(seconds / 3_600 % 24) h"
        }
    }
}
