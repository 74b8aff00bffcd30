/// What became of a reload.
public struct ReloadOutcome: Sendable, Hashable {
    public enum Result: Sendable, Hashable {
        /// The configuration and all libraries are as they were: nothing was touched.
        case unchanged
        /// What is in ``ReloadOutcome/changes`` was done.
        case changed
        /// Everything is exactly as it was, for ``ReloadOutcome/reasons``.
        case refused
    }

    /// What became of it.
    public var result: Result
    /// The generation that serves new requests now.
    public var generation: UInt64
    /// What was done, and what was left as it was; empty where the reload was refused.
    public var changes = ReloadChanges()
    /// Why nothing was done, one line each; empty unless the result is `refused`.
    public var reasons: [String] = []
    /// What the operator should know all the same, one line each, such as a change that needs a restart.
    public var warnings: [String] = []

    package init(_ result: Result, generation: UInt64) {
        self.result = result
        self.generation = generation
    }
}

/// What a reload did, each list in the order of the configuration file.
public struct ReloadChanges: Sendable, Hashable {
    /// vAddrs that were bound.
    public var added: [String] = []
    /// vAddrs whose options changed; their instances stayed.
    public var updated: [String] = []
    /// vAddrs that got another instance: new code or another `config`.
    public var repointed: [String] = []
    /// vAddrs that were withdrawn.
    public var removed: [String] = []
    /// vAddrs that are just as they were.
    public var untouched: [String] = []
    /// Plugins of which instances were created, with the first digits of their digests.
    public var created: [String] = []
    /// Plugins of which instances were retired: they end with their last request, or at the drain deadline.
    public var retired: [String] = []
    /// Keys of `node` whose new values count from now on.
    public var node: [String] = []

    package init() {}

    package init<Options>(_ plan: ReloadPlan<Options>) {
        added = plan.add.map(\.vAddr)
        updated = plan.update.map(\.vAddr)
        repointed = plan.repoint.map(\.vAddr)
        removed = plan.remove.map(\.vAddr)
        untouched = plan.untouchedRoutes.map(\.vAddr)
        created = plan.create.map(\.description)
        retired = plan.retire.map(\.description)
    }
}

extension ReloadChanges: CustomStringConvertible {
    /// One line for the log, e.g. `repointed logs, files; added quotes; 3 untouched`.
    public var description: String {
        var (created, restarted, retired) = ([String](), [String](), self.retired)
        // What goes and comes back under the same name has other options, and is not two things to whoever reads this.
        for name in self.created {
            if let index = retired.firstIndex(of: name) {
                restarted.append(retired.remove(at: index))
            } else {
                created.append(name)
            }
        }
        let lists = [
            ("changed", node.map { "node.\($0)" }), ("added", added), ("updated", updated), ("repointed", repointed),
            ("removed", removed), ("created", created), ("restarted", restarted), ("retired", retired),
        ]
        let parts = lists.filter { !$0.1.isEmpty }.map { "\($0.0) \($0.1.joined(separator: ", "))" }
        return (parts + ["\(untouched.count) untouched"]).joined(separator: "; ")
    }
}

extension InstanceKey: CustomStringConvertible {
    /// Short, for logs: `files@9f86d081`.
    package var description: String { "\(plugin)@\(digest.prefix(8))" }
}
