/// The result of applying a plan, see ``RouteSet/apply(_:_:problems:dryRun:)``.
enum TransactionResult {
    case done
    /// Nothing was changed.
    case refused(Refusal)

    /// Why nothing was changed.
    struct Refusal {
        /// The reasons, one line each.
        var reasons: [String] = []
        /// Another attempt may succeed, because neither the file nor a plugin is wrong.
        var isTemporary = true
        /// Those of the reasons that are about one instance, by the name of its plugin.
        var plugins: [String: [String]] = [:]

        mutating func add(_ failure: InstanceRecipe.Refusal, of key: InstanceKey) {
            isTemporary = isTemporary && failure.isTemporary
            plugins[key.plugin, default: []].append(failure.reason)
        }

        /// Whether every reason is about an instance of a plugin that satisfies `predicate`.
        func isOnly(about predicate: (String) -> Bool) -> Bool {
            plugins.keys.allSatisfy(predicate) && plugins.values.reduce(0) { $0 + $1.count } == reasons.count
        }
    }
}
