internal import Logging
internal import PluginRuntime

/// Creates instances of plugins in this process or in workers, or tries them out in short-lived processes.
struct InstanceFactory: Sendable {
    /// The threads for plugins that do not block.
    let threads: PluginThreads
    /// chanserv's own executable; `nil` if plugins cannot run in worker processes.
    let program: String?

    /// Creates an instance.
    ///
    /// - Parameters:
    ///   - recipe: `nil` if the instance ran at the time of the preparation.
    ///   - isTrial: create and destroy the instance in another process. The result is then `nil`.
    ///   - onFailure: called when the instance fails outside of a request, with the reason, and whether a call does not
    ///     return, so that the routes must be withdrawn at once.
    func create(
        _ recipe: InstanceRecipe?, id: InstanceID, isTrial: Bool, logger: Logger,
        onFailure: @escaping @Sendable (_ reason: String, _ withdrawsAtOnce: Bool) -> Void
    ) async -> Result<RunningInstance?, InstanceRecipe.Refusal> {
        guard let recipe else {
            // A dry run does not wait for reloads, so an instance that ran when it began may be gone.
            return .failure(
                InstanceRecipe.Refusal(
                    reason: "a reload has changed the plugins meanwhile: run it again", isTemporary: true))
        }
        if isTrial, let program {
            let refusal = await recipe.refusal(inTrialOf: program)
            return refusal.map { .failure($0) } ?? .success(nil)
        }
        let surroundings = InstanceRecipe.Surroundings(
            threads: threads, logger: logger, program: program, onCrash: { onFailure($0, false) },
            onStuck: { onFailure($0, true) })
        do throws(InstanceRecipe.Refusal) {
            let plugin = try await recipe.make(surroundings)
            return .success(RunningInstance(id: id, key: recipe.key, plugin: plugin))
        } catch {
            return .failure(error)
        }
    }
}
