public import Chanserv
public import HostConfiguration

/// A snapshot of what a host is doing. Its parts are read one after the other, so they may differ by a moment.
public struct HostStatus: Sendable, Hashable {
    /// The identity of the host on the mesh, new at each start; `nil` if it has none.
    public var hostID: String?
    /// `node.name` of the configuration; `nil` if there is none.
    public var name: String?
    /// The addresses at which the host listens, with the assigned ports.
    public var listening: [HostAddress]
    /// The generation of new requests. Counts the start and the reloads that changed routes or instances.
    public var generation: UInt64
    /// The number of open requests of each generation. Generations without requests are missing.
    public var requestsByGeneration: [UInt64: Int]
    /// The routes in the order of the file.
    public var routes: [Route]
    /// The instances; draining ones are last.
    public var instances: [Instance]
    /// The number of plugin libraries in memory. None is ever unloaded.
    public var retainedCopies: Int
    /// The total size of their files in bytes.
    public var retainedBytes: Int
    /// Counts reloads by their result.
    public var reloads: Reloads
    /// The last reload; `nil` before the first.
    public var lastReload: LastReload?
    /// The access log; `nil` if there is none or it is a part of the host's log.
    public var accessLog: AccessLog?
    /// The time since the host became ready; `nil` before.
    public var uptime: Duration?
    /// The stop in progress; `nil` before.
    public var stop: Stop?

    /// The file with a line for each request.
    public struct AccessLog: Sendable, Hashable {
        public var path: String
        /// Lines that were written.
        public var written: Int
        /// Lines that were lost because a write failed or was too slow.
        public var lost: Int
    }

    /// A stop of the host that waits for open requests.
    public struct Stop: Sendable, Hashable {
        /// The time since the stop began.
        public var elapsed: Duration
        /// The maximum time for open requests.
        public var drain: Duration
        /// The number of open requests.
        public var openRequests: Int
    }

    /// A bound route.
    public struct Route: Sendable, Hashable {
        public var vAddr: String
        public var plugin: String
        /// The SHA-256 of the library that serves new requests, in hex.
        public var digest: String
        /// Serving, withdrawn by its error mass, probing, disabled by the operator, or stopped.
        public var state: VirtualService.State
        /// Requests, sources, frames, failures, error mass.
        public var counters: VirtualService.Counters
    }

    /// An instance: a plugin with one configuration.
    public struct Instance: Sendable, Hashable {
        /// The plugin's name in the configuration.
        public var plugin: String
        /// The version that the library reports.
        public var version: String
        /// The SHA-256 of the library, in hex.
        public var digest: String
        /// Its effective `config`, as JSON.
        public var config: String
        /// Whether no route uses the instance. It is destroyed after its last request, or at its deadline.
        public var isDraining: Bool
        /// Open requests of the instance. Includes those that have ended for their clients and that the plugin has not
        /// closed.
        public var openCalls: Int
        /// Open sources of these requests.
        public var openSources: Int
        /// Requests since the instance was created.
        public var calls: Int
        /// Frames that the instance has produced.
        public var frames: Int
        /// Calls into the instance that exceeded their budget.
        public var overstays: Int
        /// The worker processes; empty if the instance runs in the host.
        public var workers: [WorkerStatus]
    }

    /// A finished reload.
    public struct LastReload: Sendable, Hashable {
        public var outcome: ReloadOutcome
        /// The time since it ended.
        public var age: Duration
    }

    /// The number of reloads with each result.
    public struct Reloads: Sendable, Hashable {
        public var changed: Int
        public var unchanged: Int
        public var refused: Int

        public init(changed: Int = 0, unchanged: Int = 0, refused: Int = 0) {
            self.changed = changed
            self.unchanged = unchanged
            self.refused = refused
        }
    }
}

extension HostStatus.Instance {
    init(_ instance: RunningInstance, in open: OpenRequests, isDraining: Bool) {
        let statistics = instance.plugin.statistics
        let requests = open.requests(.instance(instance.id))
        let workers = instance.plugin.workers
        self.init(
            plugin: instance.key.plugin, version: instance.plugin.version,
            digest: instance.key.digest, config: instance.key.config, isDraining: isDraining,
            openCalls: requests.count + workers.reduce(0) { $0 + $1.unfinishedRequests },
            openSources: requests.reduce(0) { $0 + $1.sourceCounts.open + $1.sourceCounts.waiting },
            calls: statistics.calls,
            frames: statistics.frames, overstays: statistics.overstays,
            workers: workers)
    }
}
