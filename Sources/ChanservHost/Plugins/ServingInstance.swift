package import Chanserv

/// An instance of a plugin as routes see it, wherever its code runs.
package protocol ServingInstance: Sendable {
    /// As the configuration names the plugin.
    var name: String { get }
    /// What the library says of itself.
    var version: String { get }
    /// What it has done so far.
    var statistics: PluginStatistics { get }
    /// The processes it runs in, if it has its own.
    var workers: [WorkerStatus] { get }

    /// Begins to serve a request. On a thread of the network; it returns at once. The instance calls
    /// ``RequestScope/released()`` once when it needs the request no more.
    ///
    /// - Parameter options: of the route; those of its frames' encoding are what an instance elsewhere needs to know.
    func begin(_ request: Request, in scope: RequestScope, options: RouteOptions)

    /// Destroys the instance, which gets no more requests. Call it once.
    ///
    /// - Parameters:
    ///   - openRequests: how many requests it has not let go of, although they were ended.
    ///   - grace: how long the plugin has to return.
    func destroy(openRequests: Int, grace: Duration) async -> PluginInstance.Retirement
}

extension ServingInstance {
    /// Takes the instance out of service: lets no new requests begin, waits for the open ones, ends them at the deadline, and
    /// destroys it. Call it once.
    ///
    /// - Parameters:
    ///   - lease: what stands for the instance in `open`.
    ///   - open: the requests of the host.
    ///   - deadline: when open requests are ended with an error; a cancelled task ends them at once.
    ///   - grace: how long the plugin then has to let go, and to return from destroy. Default 10 s.
    ///   - reason: for the clients whose requests are ended; `nil` is that it was replaced.
    package func retire(
        _ lease: UInt64, in open: OpenRequests, deadline: ContinuousClock.Instant, grace: Duration = .seconds(10),
        reason: String? = nil
    ) async -> PluginInstance.Retirement {
        open.close(lease: lease)
        var left = await open.wait(untilNone: .lease(lease), deadline: deadline)
        if left > 0 {
            open.cancel(
                .lease(lease), reason: reason ?? "plugin \(name) was replaced and its time to drain is over")
            // Not cut short by this task's cancellation: what was asked for is an orderly end.
            left = await Task { await open.wait(untilNone: .lease(lease), deadline: .now + grace) }.value
        }
        return await destroy(openRequests: left, grace: grace)
    }
}

extension PluginInstance: ServingInstance {
    package var version: String { library.descriptor.version }
    package var workers: [WorkerStatus] { [] }

    package func begin(_ request: Request, in scope: RequestScope, options: RouteOptions) {
        begin(request, in: scope, compression: options.compression)
    }
}
