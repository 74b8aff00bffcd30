internal import Chanserv
internal import Glibc

/// ``HostStatus`` as sent over the control socket.
package struct StatusReport: Codable, Sendable, Hashable {
    package var pid: Int32
    /// The identity of the host on the mesh; `nil` if it has none.
    package var host: String?
    /// The configured name of the host; `nil` if it has none.
    package var name: String?
    package var listening: [String]
    package var uptimeMilliseconds: Int
    package var generation: UInt64
    package var requestsByGeneration: [Generation]
    package var routes: [Route]
    package var plugins: [Plugin]
    package var retained: Retained
    package var reloads: Reloads
    /// `nil` without a file.
    package var accessLog: AccessLog?
    /// `nil` before the first reload.
    package var lastReload: LastReload?
    /// `nil` unless the host is stopping.
    package var stopping: Stopping?

    enum CodingKeys: String, CodingKey {
        case pid, host, name, listening
        case uptimeMilliseconds = "uptime_ms"
        case generation
        case requestsByGeneration = "requests_by_generation"
        case routes, plugins, retained, reloads
        case accessLog = "access_log"
        case lastReload = "last_reload"
        case stopping
    }

    package struct AccessLog: Codable, Sendable, Hashable {
        package var path: String
        package var written: Int
        package var lost: Int
    }

    package struct Stopping: Codable, Sendable, Hashable {
        package var elapsedMilliseconds: Int
        package var drainMilliseconds: Int
        package var requestsOpen: Int

        enum CodingKeys: String, CodingKey {
            case elapsedMilliseconds = "elapsed_ms"
            case drainMilliseconds = "drain_ms"
            case requestsOpen = "requests_open"
        }
    }

    package struct Generation: Codable, Sendable, Hashable {
        package var generation: UInt64
        package var requests: Int
    }

    package struct Route: Codable, Sendable, Hashable {
        package enum State: String, Codable, Sendable {
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

        package var vaddr: String
        package var plugin: String
        package var digest: String
        package var state: State
        /// With `withdrawn`: the remaining pause.
        package var withdrawnMilliseconds: Int?
        package var requestsOpen: Int
        package var requestsTotal: Int
        package var requestsRefused: Int
        /// Missing in the answer of an older host.
        package var refused: Refused?
        package var sourcesWaiting: Int
        package var sourcesOpen: Int
        package var sourcesTotal: Int
        package var frames: Int
        package var bytes: Int
        package var failures: Int
        package var errorMass: Int

        enum CodingKeys: String, CodingKey {
            case vaddr, plugin, digest, state
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

    /// The refused requests by reason, see `VirtualService.Refusals`.
    package struct Refused: Codable, Sendable, Hashable {
        package var busy: Int
        package var withdrawn: Int
        package var draining: Int
    }

    package struct Plugin: Codable, Sendable, Hashable {
        package var plugin: String
        package var version: String
        package var digest: String
        /// JSON as text.
        package var config: String
        package var draining: Bool
        package var callsOpen: Int
        package var callsTotal: Int
        package var sourcesOpen: Int
        package var frames: Int
        package var overstays: Int
        /// The worker processes; empty if the instance runs in the host.
        package var workers: [Worker]

        enum CodingKeys: String, CodingKey {
            case plugin, version, digest, config, draining
            case callsOpen = "calls_open"
            case callsTotal = "calls_total"
            case sourcesOpen = "sources_open"
            case frames, overstays, workers
        }
    }

    package struct Worker: Codable, Sendable, Hashable {
        package enum State: String, Codable, Sendable {
            case starting, serving
            /// The process has ended and will be restarted after a pause.
            case pausing
            case retired
        }

        /// `nil` while there is no process.
        package var pid: Int32?
        package var state: State
        /// With `pausing`: the remaining pause.
        package var pausingMilliseconds: Int?
        package var restarts: Int
        /// The reason why the process ended the last time; `nil` if it never ended.
        package var lastEnd: String?
        package var requestsOpen: Int

        enum CodingKeys: String, CodingKey {
            case pid, state
            case pausingMilliseconds = "pausing_ms"
            case restarts
            case lastEnd = "last_end"
            case requestsOpen = "requests_open"
        }
    }

    package struct Retained: Codable, Sendable, Hashable {
        package var copies: Int
        package var bytes: Int
    }

    package struct Reloads: Codable, Sendable, Hashable {
        package var changed: Int
        package var unchanged: Int
        package var refused: Int
    }

    package struct LastReload: Codable, Sendable, Hashable {
        package var ageMilliseconds: Int
        package var outcome: ReloadOutcome

        enum CodingKeys: String, CodingKey {
            case ageMilliseconds = "age_ms"
            case outcome
        }
    }
}

extension StatusReport {
    package init(_ status: HostStatus) {
        pid = getpid()
        host = status.hostID
        name = status.name
        listening = status.listening.map(\.description)
        uptimeMilliseconds = status.uptime?.wholeMilliseconds ?? 0
        generation = status.generation
        requestsByGeneration = status.requestsByGeneration.sorted { $0.key < $1.key }.map {
            Generation(generation: $0.key, requests: $0.value)
        }
        routes = status.routes.map(Route.init)
        plugins = status.instances.map { instance in
            Plugin(
                plugin: instance.plugin, version: instance.version, digest: instance.digest, config: instance.config,
                draining: instance.isDraining, callsOpen: instance.openCalls, callsTotal: instance.calls,
                sourcesOpen: instance.openSources, frames: instance.frames, overstays: instance.overstays,
                workers: instance.workers.map(Worker.init))
        }
        retained = Retained(copies: status.retainedCopies, bytes: status.retainedBytes)
        reloads = Reloads(
            changed: status.reloads.changed, unchanged: status.reloads.unchanged, refused: status.reloads.refused)
        accessLog = status.accessLog.map { AccessLog(path: $0.path, written: $0.written, lost: $0.lost) }
        lastReload = status.lastReload.map {
            LastReload(ageMilliseconds: $0.age.wholeMilliseconds, outcome: $0.outcome)
        }
        stopping = status.stop.map {
            Stopping(
                elapsedMilliseconds: $0.elapsed.wholeMilliseconds, drainMilliseconds: $0.drain.wholeMilliseconds,
                requestsOpen: $0.openRequests)
        }
    }
}

extension StatusReport.Route {
    init(_ route: HostStatus.Route) {
        let counters = route.counters
        var remaining: Int?
        let state: State
        switch route.state {
        case .serving: state = .serving
        case .withdrawn(let until):
            state = .withdrawn
            remaining = max(0, ContinuousClock.now.duration(to: until).wholeMilliseconds)
        case .probing: state = .probing
        case .disabled: state = counters.requestsOpen > 0 ? .draining : .drained
        case .stopped: state = .stopped
        }
        self.init(
            vaddr: route.vAddr, plugin: route.plugin, digest: route.digest, state: state,
            withdrawnMilliseconds: remaining,
            requestsOpen: counters.requestsOpen, requestsTotal: counters.requestsTotal,
            requestsRefused: counters.requestsRefused, refused: StatusReport.Refused(counters.refused),
            sourcesWaiting: counters.sourcesWaiting, sourcesOpen: counters.sourcesOpen,
            sourcesTotal: counters.sourcesTotal, frames: counters.frames, bytes: counters.bytes,
            failures: counters.failures, errorMass: counters.errorMass)
    }
}

extension StatusReport.Refused {
    init(_ refusals: VirtualService.Refusals) {
        self.init(busy: refusals.busy, withdrawn: refusals.withdrawn, draining: refusals.draining)
    }
}

extension StatusReport.Worker {
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
