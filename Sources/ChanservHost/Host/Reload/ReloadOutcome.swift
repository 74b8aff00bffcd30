/// The outcome of a reload. Its encoding is sent over the control socket (`docs/control.md`).
public struct ReloadOutcome: Codable, Sendable, Hashable {
    public enum Result: String, Codable, Sendable, Hashable {
        /// The configuration and all libraries are unchanged.
        case unchanged
        /// The host has applied ``ReloadOutcome/changes``.
        case changed
        /// The host has applied nothing, because of ``ReloadOutcome/reasons``.
        case refused
    }

    /// The kind of outcome.
    public var result: Result
    /// Whether the host only examined what a reload would do. Then the rest describes that reload, and `generation` is
    /// the one that serves now. Missing in the outcome of a reload.
    public var dryRun: Bool?
    /// The generation that serves new requests.
    public var generation: UInt64
    /// The changes and the unchanged routes; empty if the reload was refused.
    public var changes = ReloadChanges()
    /// The errors, one line each; empty unless the result is `refused`.
    public var reasons: [String] = []
    /// The reasons why drop-ins were rejected, one line each. The rest was applied.
    public var rejected: [String] = []
    /// The routes that keep their version because the configured one was rolled back, one line each.
    public var rolledBack: [String] = []
    /// The warnings, one line each, e.g. of a change that needs a restart.
    public var warnings: [String] = []
    /// The changed keys of `node` that a reload cannot apply, such as `listen`.
    public var needRestart: [String] = []

    private enum CodingKeys: String, CodingKey {
        case result, generation, changes, reasons, rejected, warnings
        case rolledBack = "rolled_back"
        case needRestart = "need_restart"
        case dryRun = "dry_run"
    }

    package init(_ result: Result, generation: UInt64) {
        self.result = result
        self.generation = generation
    }

    static func refused(_ reasons: [String], generation: UInt64) -> Self {
        var outcome = ReloadOutcome(.refused, generation: generation)
        outcome.reasons = reasons
        return outcome
    }
}

extension ReloadOutcome {
    /// The text for a reload without a change.
    package var unchangedText: String {
        guard let reason = restartText else { return "nothing has changed" }
        return "nothing was applied: \(reason)"
    }

    /// One line for the operator.
    package var text: String {
        let wrong =
            (rejected.isEmpty ? "" : "drop-ins were rejected; ")
            + (rolledBack.isEmpty ? "" : "versions that were rolled back were left out; ")
        let serving = "\(wrong)still serving generation \(generation)"
        switch (result, dryRun == true) {
        case (.unchanged, false): return "\(unchangedText); \(serving)"
        case (.unchanged, true):
            return "a reload would change nothing\(restartText.map { ": \($0)" } ?? ""); \(serving)"
        case (.refused, false): return "reload refused; \(serving)"
        case (.refused, true): return "a reload would be refused; \(serving)"
        case (.changed, false):
            return "generation \(generation): \(changes)" + (rejected.isEmpty ? "" : "; drop-ins were rejected")
        case (.changed, true): return "a reload would apply: \(changes); \(serving)"
        }
    }

    private var restartText: String? {
        let names = needRestart.map { "node.\($0)" }.joined(separator: ", ")
        return names.isEmpty ? nil : "\(names) \(needRestart.count == 1 ? "needs" : "need") a restart"
    }
}

/// The changes of a reload. Each list has the order of the configuration file.
public struct ReloadChanges: Codable, Sendable, Hashable {
    /// New vAddrs.
    public var added: [String] = []
    /// vAddrs with new options and the same instance.
    public var updated: [String] = []
    /// vAddrs with a new instance, because of new code or another `config`.
    public var repointed: [String] = []
    /// vAddrs that were removed.
    public var removed: [String] = []
    /// vAddrs without a change.
    public var untouched: [String] = []
    /// The plugins of new instances, with the first digits of their digests.
    public var created: [String] = []
    /// The plugins of retired instances, which end with their last request or at the drain deadline.
    public var retired: [String] = []
    /// The changed keys of `node` whose new values are in force.
    public var node: [String] = []
    /// The changed keys of `log`; `nil` if there are none.
    public var log: [String]?
    /// The listeners and joins with other certificates, keys or CAs, such as `listen 0.0.0.0:5556`; `nil` if there are
    /// none.
    public var tls: [String]?
    /// Whether the section `access` has changed; `nil` if not.
    public var access: Bool?

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
        // An instance that is retired and created again under the same name only has new options, so it is listed once.
        for name in self.created {
            if let index = retired.firstIndex(of: name) {
                restarted.append(retired.remove(at: index))
            } else {
                created.append(name)
            }
        }
        let lists = [
            (
                "changed",
                node.map { "node.\($0)" } + (log ?? []).map { "log.\($0)" } + (access == true ? ["access"] : [])
                    + (tls ?? []).map { "TLS of \($0)" }
            ), ("added", added),
            ("updated", updated), ("repointed", repointed),
            ("removed", removed), ("created", created), ("restarted", restarted), ("retired", retired),
        ]
        let parts = lists.filter { !$0.1.isEmpty }.map { "\($0.0) \($0.1.joined(separator: ", "))" }
        return (parts + ["\(untouched.count) untouched"]).joined(separator: "; ")
    }
}

extension InstanceKey: CustomStringConvertible {
    /// A short name for logs: `files@9f86d081`.
    package var description: String { "\(plugin)@\(digest.prefix(8))" }
}
