public import Chanserv

/// What a host is doing: a snapshot, whose parts are taken one after the other.
public struct HostStatus: Sendable, Hashable {
    /// Where it listens, with the ports it got.
    public var listening: [HostAddress]
    /// The generation new requests begin on. Counts the start and every reload that changed something.
    public var generation: UInt64
    /// How many requests, with their sources, hold each generation; generations nobody holds are missing.
    public var requestsByGeneration: [UInt64: Int]
    /// The routes in the order of the file.
    public var routes: [Route]
    /// The instances, those that drain last.
    public var instances: [Instance]
    /// Plugin libraries in memory since the start: none is ever unloaded.
    public var retainedCopies: Int
    /// The sizes of their files together, in bytes.
    public var retainedBytes: Int
    /// Reloads that changed something, changed nothing, and were refused.
    public var reloads: Reloads
    /// The one that ended last; `nil` before the first.
    public var lastReload: LastReload?
    /// How long the host has been ready; `nil` before it is.
    public var uptime: Duration?

    /// A bound route.
    public struct Route: Sendable, Hashable {
        public var vAddr: String
        public var plugin: String
        /// The SHA-256 of the library that serves new requests, in hex.
        public var digest: String
        /// Serving, withdrawn by its error mass, probing, disabled by its operator, or stopped.
        public var state: Service.State
        /// Requests, sources, frames, failures, error mass.
        public var counters: Service.Counters
    }

    /// A plugin with one configuration.
    public struct Instance: Sendable, Hashable {
        /// As the configuration names it.
        public var plugin: String
        /// What the library says of itself.
        public var version: String
        /// The SHA-256 of the library, in hex.
        public var digest: String
        /// Its effective `config`, as JSON.
        public var config: String
        /// Whether no route leads to it any more: it ends with its last request or at its deadline.
        public var isDraining: Bool
        /// Requests that are open in it.
        public var openCalls: Int
        /// Their open sources.
        public var openSources: Int
        /// Requests since it was created.
        public var calls: Int
        /// Frames it has produced.
        public var frames: Int
        /// Calls into it that took longer than their budget.
        public var overstays: Int
        /// The processes it runs in; empty where it runs in the host's.
        public var workers: [WorkerStatus]
    }

    /// A reload that has ended.
    public struct LastReload: Sendable, Hashable {
        public var outcome: ReloadOutcome
        /// How long ago it ended.
        public var age: Duration
    }

    /// How reloads have ended.
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
        let requests = open.requests(.lease(instance.id))
        self.init(
            plugin: instance.key.plugin, version: instance.plugin.version,
            digest: instance.key.digest, config: instance.key.config, isDraining: isDraining,
            openCalls: requests.count,
            openSources: requests.reduce(0) { $0 + $1.sourceCounts.open + $1.sourceCounts.waiting },
            calls: statistics.calls,
            frames: statistics.frames, overstays: statistics.overstays,
            workers: instance.plugin.workers)
    }
}
