package import Chanserv
package import HostConfiguration
package import PluginRuntime

/// Instance of a plugin as routes see it, in this process or in a worker.
package protocol ServingInstance: Sendable {
    /// Name of the plugin in the configuration.
    var name: String { get }
    /// Version that the library states.
    var version: String { get }
    /// Current values of the instance's counters.
    var statistics: PluginStatistics { get }
    /// Worker processes of the instance; empty if it runs in the host.
    var workers: [WorkerStatus] { get }

    /// Begins to serve a request. Runs on an event loop and returns at once. The instance calls
    /// ``RequestScope/handlerFinished()`` once when it no longer needs the request.
    ///
    /// - Parameter options: options of the route. An instance in a worker needs those for the encoding of frames.
    func begin(_ request: Request, in scope: RequestScope, options: RouteOptions)

    /// Destroys the instance, which gets no more requests. Call it once.
    ///
    /// - Parameters:
    ///   - openRequests: number of requests that the instance has not released although they were ended.
    ///   - grace: maximum time for the plugin to return.
    func destroy(openRequests: Int, grace: Duration) async -> PluginInstance.Retirement
}

extension ServingInstance {
    /// Takes the instance out of service: stops new requests, waits for open ones, ends them at the deadline, and
    /// destroys the instance. Call it once.
    ///
    /// - Parameters:
    ///   - instance: id of the instance in `open`.
    ///   - open: open requests of the host.
    ///   - deadline: time at which open requests are ended with an error. Cancelling the task ends them at once.
    ///   - grace: maximum time for the plugin to release its requests, and then to return from destroy. The default is
    ///     10 s.
    ///   - reason: error text for the clients of ended requests. `nil` states that the plugin was replaced.
    package func retire(
        _ instance: UInt64, in open: OpenRequests, deadline: ContinuousClock.Instant, grace: Duration = .seconds(10),
        reason: String? = nil
    ) async -> PluginInstance.Retirement {
        open.close(instance: instance)
        var left = await open.wait(untilNone: .instance(instance), deadline: deadline)
        if left > 0 {
            open.cancel(
                .instance(instance), reason: reason ?? "plugin \(name) was replaced and its time to drain is over")
            // A cancellation of this task must not cut this wait short, because the instance must end in an orderly
            // way.
            left = await Task { await open.wait(untilNone: .instance(instance), deadline: .now + grace) }.value
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
