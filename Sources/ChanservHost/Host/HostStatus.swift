internal import AstraNet
internal import AstraNetTLS
internal import Chanserv
internal import Glibc
internal import HostConfiguration

/// A snapshot of what a host is doing. The generation, the routes and the instances are of one moment. The other parts
/// and the counters are read one after the other, so they may differ by a moment.
///
/// Its encoding is the answer to `status` on the control socket (`docs/control.md`).
public struct HostStatus: Codable, Sendable, Hashable {
    /// The id of the host's process.
    public var pid: Int32
    /// The identity of the host on the mesh; `nil` if it has none.
    public var host: String?
    /// The configured name of the host; `nil` if it has none.
    public var name: String?
    /// The addresses at which the host listens, with the assigned ports.
    public var listening: [String]
    /// The time since the host became ready; 0 before.
    public var uptimeMilliseconds: Int
    /// The generation of new requests. Counts the start and the reloads that changed routes or instances.
    public var generation: UInt64
    /// The open requests of each generation. Generations without requests are missing.
    public var requestsByGeneration: [Generation]
    /// The routes in the order of the file.
    public var routes: [Route]
    /// The instances; draining ones are last.
    public var plugins: [Plugin]
    /// The drop-ins in the order of their names; empty without `drop_in`.
    public var dropIns: [DropIn]
    /// The certificates of listeners and joins; empty without TLS.
    public var certificates: [Certificate]
    /// Counts what the host refused on its links; `nil` if it has none.
    public var linkRefusals: LinkRefusals?
    /// The plugin libraries in memory. None is ever unloaded.
    public var retained: Retained
    /// Counts reloads by their result.
    public var reloads: Reloads
    /// `nil` without a file.
    public var accessLog: AccessLog?
    /// `nil` before the first reload.
    public var lastReload: LastReload?
    /// `nil` unless the host is stopping.
    public var stopping: Stopping?

    enum CodingKeys: String, CodingKey {
        case pid, host, name, listening
        case uptimeMilliseconds = "uptime_ms"
        case generation
        case requestsByGeneration = "requests_by_generation"
        case routes, plugins
        case dropIns = "drop_ins"
        case certificates
        case linkRefusals = "link_refusals"
        case retained, reloads
        case accessLog = "access_log"
        case lastReload = "last_reload"
        case stopping
    }

    /// A certificate that the host shows to peers.
    public struct Certificate: Codable, Sendable, Hashable {
        public enum Use: String, Codable, Sendable { case listen, join }

        public var use: Use
        /// The address of the listener or of the joined node.
        public var address: String
        public var file: String
        /// Hexadecimal digits.
        public var serial: String
        /// The end of the validity, in seconds since 1970.
        public var notAfter: Int64
        /// `notAfter` as text: `2027-03-31T12:00:00Z`.
        public var expiry: String
        /// SHA-256 of the public key, in hexadecimal digits.
        public var sha256: String

        enum CodingKeys: String, CodingKey {
            case use, address, file, serial
            case notAfter = "not_after"
            case expiry, sha256
        }
    }

    /// Counts of what the host refused on its links since its start, see `MeshListing.Refused`.
    public struct LinkRefusals: Codable, Sendable, Hashable {
        public var links: Int
        public var services: Int
        public var streams: Int
        public var overfull: Int
        public var insecure: Int
        public var forgedHosts: Int
        public var forgedOps: Int
        public var forbiddenServices: Int

        enum CodingKeys: String, CodingKey {
            case links, services, streams, overfull, insecure
            case forgedHosts = "forged_hosts"
            case forgedOps = "forged_ops"
            case forbiddenServices = "forbidden_services"
        }
    }

    public struct AccessLog: Codable, Sendable, Hashable {
        public var path: String
        public var written: Int
        public var lost: Int
    }

    public struct Stopping: Codable, Sendable, Hashable {
        public var elapsedMilliseconds: Int
        public var drainMilliseconds: Int
        public var requestsOpen: Int
        /// The id of the process that serves instead; `nil` if the host was not replaced.
        public var successor: Int32?

        enum CodingKeys: String, CodingKey {
            case elapsedMilliseconds = "elapsed_ms"
            case drainMilliseconds = "drain_ms"
            case requestsOpen = "requests_open"
            case successor
        }
    }

    public struct Generation: Codable, Sendable, Hashable {
        public var generation: UInt64
        public var requests: Int
    }

    public struct Route: Codable, Sendable, Hashable {
        public enum State: String, Codable, Sendable {
            case serving
            /// Withdrawn by its error mass, for a pause.
            case withdrawn
            /// Back after the pause; the next request is the probe that decides.
            case probing
            /// Withdrawn by the operator; some requests have not ended.
            case draining
            /// Withdrawn by the operator; all requests have ended.
            case drained
            /// The host is stopping.
            case stopped
        }

        public var vaddr: String
        public var plugin: String
        public var digest: String
        public var state: State
        /// With `withdrawn`: the remaining pause.
        public var withdrawnMilliseconds: Int?
        public var requestsOpen: Int
        public var requestsTotal: Int
        public var requestsRefused: Int
        public var refused: Refused
        public var sourcesWaiting: Int
        public var sourcesOpen: Int
        public var sourcesTotal: Int
        public var frames: Int
        public var bytes: Int
        public var failures: Int
        public var errorMass: Int
        /// Identifies the instance that serves the route, in this run of the host.
        public var instance: UInt64
        /// `nil` if the route is not on probation and no version of it was rolled back.
        public var deploy: Deploy?

        enum CodingKeys: String, CodingKey {
            case vaddr, plugin, digest, state, instance, deploy
            case withdrawnMilliseconds = "withdrawn_ms"
            case requestsOpen = "requests_open"
            case requestsTotal = "requests_total"
            case requestsRefused = "requests_refused"
            case refused
            case sourcesWaiting = "sources_waiting"
            case sourcesOpen = "sources_open"
            case sourcesTotal = "sources_total"
            case frames, bytes, failures
            case errorMass = "error_mass"
        }
    }

    /// The probation of a route, or its last rollback.
    public struct Deploy: Codable, Sendable, Hashable {
        public enum State: String, Codable, Sendable {
            /// The new version serves, and the version before is ready.
            case probation
            /// As `probation`; its time is over, but there were too few requests to judge the new version.
            case held
            /// The route has returned to the version before.
            case rolledBack = "rolled_back"
        }

        /// The results of a version since the probation began.
        public struct Results: Codable, Sendable, Hashable {
            public var succeeded: Int
            public var failed: Int
            /// The median time until the first frame; `nil` without requests.
            public var medianMilliseconds: Double?

            enum CodingKeys: String, CodingKey {
                case succeeded, failed
                case medianMilliseconds = "median_ms"
            }
        }

        public var state: State
        /// Identifies the instance of ``version``, in this run of the host.
        public var instance: UInt64
        /// The version on probation or, with `rolled_back`, the one that was bad: `quotes@9f86d081`.
        public var version: String
        /// The version before.
        public var previous: String
        /// The time since the beginning of the probation or, with `rolled_back`, since the return.
        public var sinceMilliseconds: Int
        /// With `rolled_back`: why the version was bad.
        public var reason: String?
        /// The results of the new version; `nil` with `rolled_back`.
        public var results: Results?
        /// The results of the version before; `nil` with `rolled_back`.
        public var previousResults: Results?

        enum CodingKeys: String, CodingKey {
            case state, instance, version, previous
            case sinceMilliseconds = "since_ms"
            case reason, results
            case previousResults = "previous_results"
        }
    }

    /// The refused requests by reason, see `VirtualService.Refusals`.
    public struct Refused: Codable, Sendable, Hashable {
        public var busy: Int
        public var withdrawn: Int
        public var draining: Int
        public var denied: Int
        public var quota: Int
    }

    public struct Plugin: Codable, Sendable, Hashable {
        public var plugin: String
        public var version: String
        public var digest: String
        /// JSON as text.
        public var config: String
        public var draining: Bool
        /// Whether a route on probation can return to the instance, and no other route uses it.
        public var standby: Bool
        public var callsOpen: Int
        public var callsTotal: Int
        public var sourcesOpen: Int
        public var frames: Int
        public var overstays: Int
        /// The worker processes; empty if the instance runs in the host.
        public var workers: [Worker]

        enum CodingKeys: String, CodingKey {
            case plugin, version, digest, config, draining, standby
            case callsOpen = "calls_open"
            case callsTotal = "calls_total"
            case sourcesOpen = "sources_open"
            case frames, overstays, workers
        }
    }

    public struct Worker: Codable, Sendable, Hashable {
        public enum State: String, Codable, Sendable {
            case starting, serving
            /// The process has ended and will be restarted after a pause.
            case pausing
            case retired
        }

        /// `nil` while there is no process.
        public var pid: Int32?
        public var state: State
        /// With `pausing`: the remaining pause.
        public var pausingMilliseconds: Int?
        public var restarts: Int
        /// The reason why the process ended the last time; `nil` if it never ended.
        public var lastEnd: String?
        public var requestsOpen: Int

        enum CodingKeys: String, CodingKey {
            case pid, state
            case pausingMilliseconds = "pausing_ms"
            case restarts
            case lastEnd = "last_end"
            case requestsOpen = "requests_open"
        }
    }

    /// A file pair of the drop-in folder.
    public struct DropIn: Codable, Sendable, Hashable {
        public enum State: String, Codable, Sendable {
            case serving
            /// Its YAML file has `enabled: false`.
            case disabled
            /// Its files are gone, and `on_remove: keep` keeps its routes.
            case removed
            /// It cannot be served. The version that was served before, if any, goes on.
            case rejected
        }

        public var name: String
        /// The library or, if it is missing, the YAML file.
        public var file: String
        public var state: State
        /// The time since the last change of the state.
        public var sinceMilliseconds: Int
        /// With `rejected`: the reasons, one line each.
        public var reasons: [String]

        enum CodingKeys: String, CodingKey {
            case name, file, state
            case sinceMilliseconds = "since_ms"
            case reasons
        }
    }

    public struct Retained: Codable, Sendable, Hashable {
        public var copies: Int
        public var bytes: Int
    }

    public struct Reloads: Codable, Sendable, Hashable {
        public var changed: Int
        public var unchanged: Int
        public var refused: Int

        package init(changed: Int, unchanged: Int, refused: Int) {
            (self.changed, self.unchanged, self.refused) = (changed, unchanged, refused)
        }
    }

    public struct LastReload: Codable, Sendable, Hashable {
        public var ageMilliseconds: Int
        public var outcome: ReloadOutcome

        enum CodingKeys: String, CodingKey {
            case ageMilliseconds = "age_ms"
            case outcome
        }
    }
}

extension HostStatus.Route {
    init(_ route: RunningRoute, instance: InstanceID, deploy: HostStatus.Deploy?) {
        let counters = route.service.counters
        var remaining: Int?
        let state: State
        switch route.service.state {
        case .serving: state = .serving
        case .withdrawn(let until):
            state = .withdrawn
            remaining = max(0, ContinuousClock.now.duration(to: until).wholeMilliseconds)
        case .probing: state = .probing
        case .disabled: state = counters.requestsOpen > 0 ? .draining : .drained
        case .stopped: state = .stopped
        }
        self.init(
            vaddr: route.planned.vAddr, plugin: route.planned.instance.plugin, digest: route.planned.instance.digest,
            state: state, withdrawnMilliseconds: remaining, requestsOpen: counters.requestsOpen,
            requestsTotal: counters.requestsTotal, requestsRefused: counters.requestsRefused,
            refused: HostStatus.Refused(
                busy: counters.refused.busy, withdrawn: counters.refused.withdrawn, draining: counters.refused.draining,
                denied: counters.refused.denied, quota: counters.refused.quota),
            sourcesWaiting: counters.sourcesWaiting, sourcesOpen: counters.sourcesOpen,
            sourcesTotal: counters.sourcesTotal, frames: counters.frames, bytes: counters.bytes,
            failures: counters.failures, errorMass: counters.errorMass, instance: instance, deploy: deploy)
    }
}

extension HostStatus.Plugin {
    /// The use of an instance.
    enum Use {
        case current
        /// Only routes on probation can return to it.
        case standby
        /// No route uses it.
        case draining
    }

    init(_ instance: RunningInstance, in open: OpenRequests, _ use: Use) {
        let statistics = instance.plugin.statistics
        let requests = open.requests(.instance(instance.id))
        let workers = instance.plugin.workers
        self.init(
            plugin: instance.key.plugin, version: instance.plugin.version, digest: instance.key.digest,
            config: instance.key.config, draining: use == .draining, standby: use == .standby,
            callsOpen: requests.count + workers.reduce(0) { $0 + $1.unfinishedRequests }, callsTotal: statistics.calls,
            sourcesOpen: requests.reduce(0) { $0 + $1.sourceCounts.open + $1.sourceCounts.waiting },
            frames: statistics.frames, overstays: statistics.overstays, workers: workers.map(HostStatus.Worker.init))
    }
}

extension HostStatus.Deploy {
    /// - Returns: `nil` if there is nothing to report of the route.
    init?(_ route: RunningRoute, instance: InstanceID, _ deployments: Deployments) {
        if let record = deployments.records[route.id] {
            self.init(
                state: record.probation.state == .held ? .held : .probation, instance: instance,
                version: route.planned.instance.description,
                previous: record.comparison.standby.key.description,
                sinceMilliseconds: record.began.duration(to: .now).wholeMilliseconds,
                results: Results(record.comparison.new.tally), previousResults: Results(record.comparison.old.tally))
        } else if let rejected = deployments.rejected[route.planned.vAddr] {
            self.init(
                state: .rolledBack, instance: rejected.instance, version: rejected.version.description,
                previous: route.planned.instance.description,
                sinceMilliseconds: rejected.time.duration(to: .now).wholeMilliseconds,
                reason: rejected.reason.description)
        } else {
            return nil
        }
    }
}

extension HostStatus.Deploy.Results {
    init(_ tally: RequestTally) {
        self.init(
            succeeded: tally.succeeded, failed: tally.failed,
            medianMilliseconds: tally.latencies.median.map { $0 / .milliseconds(1) })
    }
}

extension HostStatus.DropIn {
    init(_ name: String, _ entry: DropInTable.Entry) {
        var reasons: [String] = []
        let state: State
        switch entry.state {
        case .serving: state = .serving
        case .disabled: state = .disabled
        case .removed: state = .removed
        case .rejected(let lines): (state, reasons) = (.rejected, lines)
        }
        self.init(
            name: name, file: entry.file, state: state,
            sinceMilliseconds: entry.since.duration(to: .now).wholeMilliseconds, reasons: reasons)
    }
}

extension HostStatus.Worker {
    init(_ worker: WorkerStatus) {
        var remaining: Int?
        let state: State
        switch worker.state {
        case .starting: state = .starting
        case .serving: state = .serving
        case .pausing(let until):
            state = .pausing
            remaining = max(0, ContinuousClock.now.duration(to: until).wholeMilliseconds)
        case .retired: state = .retired
        }
        self.init(
            pid: worker.process, state: state, pausingMilliseconds: remaining, restarts: worker.restarts,
            lastEnd: worker.lastEnd, requestsOpen: worker.openRequests)
    }
}

extension Duration {
    var wholeMilliseconds: Int { Int((self / .milliseconds(1)).rounded(.down)) }
}

extension HostStatus.Certificate {
    init(_ certificate: CertificateSummary, _ use: Use, _ address: HostAddress) {
        self.init(
            use: use, address: address.description, file: certificate.file, serial: certificate.serialNumber,
            notAfter: certificate.notAfter, expiry: certificate.expiry, sha256: certificate.keyFingerprint)
    }
}

extension HostStatus.LinkRefusals {
    init(_ refused: MeshListing.Refused) {
        self.init(
            links: refused.links, services: refused.services, streams: refused.streams, overfull: refused.overfull,
            insecure: refused.insecure, forgedHosts: refused.forgedHosts, forgedOps: refused.forgedOps,
            forbiddenServices: refused.forbiddenServices)
    }
}
