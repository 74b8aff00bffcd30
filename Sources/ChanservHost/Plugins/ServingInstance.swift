package import Chanserv

/// An instance of a plugin as routes see it, wherever its code runs.
package protocol ServingInstance: Sendable {
    /// As the configuration names the plugin.
    var name: String { get }
    /// What the library says of itself.
    var version: String { get }
    /// Where tasks that serve its requests are best run; `nil` is Swift's own pool.
    var taskExecutor: (any TaskExecutor)? { get }
    /// What it has done so far.
    var statistics: PluginStatistics { get }
    /// The processes it runs in, if it has its own.
    var workers: [WorkerStatus] { get }

    /// Serves a request.
    ///
    /// - Parameters:
    ///   - options: of the route; those of its frames' encoding are what an instance elsewhere needs to know.
    ///   - onEnd: called once when nothing of the request is left in the instance, also where this throws.
    /// - Throws: ``PluginError``.
    func serve(
        _ request: Request, options: RouteOptions, onEnd: @escaping @Sendable () -> Void
    ) async throws(PluginError) -> Sources

    /// Takes the instance out of service: lets no new requests begin, waits for the open ones, ends them at the deadline,
    /// and destroys it. Call it once.
    ///
    /// - Parameters:
    ///   - deadline: when open requests are ended with an error; a cancelled task ends them at once.
    ///   - grace: how long the plugin then has to let go.
    ///   - reason: for the clients whose requests are ended; `nil` is that it was replaced.
    func retire(deadline: ContinuousClock.Instant, grace: Duration, reason: String?) async -> PluginInstance.Retirement
}

extension ServingInstance {
    /// As ``retire(deadline:grace:reason:)`` with the usual 10 s of grace.
    package func retire(
        deadline: ContinuousClock.Instant, reason: String? = nil
    ) async -> PluginInstance.Retirement {
        await retire(deadline: deadline, grace: .seconds(10), reason: reason)
    }
}

extension PluginInstance: ServingInstance {
    package var version: String { library.descriptor.version }
    package var taskExecutor: (any TaskExecutor)? { executor }
    package var workers: [WorkerStatus] { [] }

    package func serve(
        _ request: Request, options: RouteOptions, onEnd: @escaping @Sendable () -> Void
    ) async throws(PluginError) -> Sources {
        try await open(request, onEnd: onEnd)
    }
}
