internal import CChanservPlugin
package import Chanserv
package import HostConfiguration
package import Logging
internal import NIOConcurrencyHelpers

/// Instance of a plugin with one configuration, to which routes send their requests.
package final class PluginInstance: Sendable {
    /// Settings of an instance.
    package struct Configuration: Sendable {
        /// Maximum duration of a function before the host logs and counts it. The default is 1 s.
        package var callBudget: Duration = .seconds(1)
        /// Maximum duration of create and destroy before the host logs and counts it. The default is 5 s.
        package var lifecycleBudget: Duration = .seconds(5)
        /// Maximum number of bytes of frames that are lent to the host at the same time. 0 copies all frames. The
        /// default is 64 MiB.
        package var lentBytesLimit = LentFrames.bytesLimit
        /// Whether a `CHANSERV_PLUGIN_INLINE` plugin may be called on event loops. The default is `true`.
        package var allowsInline = true
        /// Number of threads of a `CHANSERV_PLUGIN_BLOCKING` plugin.
        package var blockingThreads = HostConfiguration.Plugin.defaultThreads
        /// Called once for each function that has not returned within its budget, with a line for the operator. Runs on
        /// any thread. Not called for create and destroy.
        package var onStuck: (@Sendable (String) -> Void)?
        /// Maximum duration of a function before `onKillTimeout` is called. `nil`, the default, is unlimited.
        package var killAfter: Duration?
        /// Called about once a second for a function that has not returned after `killAfter`, with a line for the
        /// operator. Runs on any thread. Not called for create and destroy.
        package var onKillTimeout: (@Sendable (String) -> Void)?

        package init() {}
    }

    /// Result of retiring an instance.
    package enum Retirement: Sendable, Hashable {
        /// All requests are closed and destroy has returned.
        case destroyed
        /// A function of the plugin did not return in time, or a lent frame was not released. The instance stays in
        /// memory for ever.
        case leaked(openCalls: Int)
        /// The worker process did not end in time and was killed with this many open requests.
        case killed(openCalls: Int)
    }

    /// Name of the plugin in the configuration.
    package var name: String { context.name }
    /// Library that the instance runs.
    package let library: PluginLibrary

    private let context: PluginContext
    private let host: HostTable
    private let pointer: PluginPointer
    /// Threads reserved for this instance; `nil` if it uses the shared threads.
    private let ownThreads: PluginThreads?

    /// Creates an instance by calling the plugin's create.
    ///
    /// - Parameters:
    ///   - name: name of the plugin in the configuration, for logs and messages.
    ///   - library: the library to instantiate.
    ///   - values: configuration of the instance (the content of `config:`).
    ///   - threads: threads that non-blocking plugins share.
    ///   - logger: receives the plugin's log messages with the metadata `plugin`.
    /// - Throws: ``PluginError`` with the plugin's message.
    package static func create(
        name: String, library: PluginLibrary, values: PluginConfiguration, threads: PluginThreads,
        logger: Logger, configuration: Configuration = Configuration()
    ) async throws(PluginError) -> PluginInstance {
        let descriptor = library.descriptor
        let ownThreads =
            descriptor.isBlocking ? PluginThreads(name: name, limit: max(1, configuration.blockingThreads)) : nil
        let base = ownThreads ?? threads
        let executor: any PluginExecutor = descriptor.isSerial ? SerialLane(on: base) : base
        var logger = logger
        logger[metadataKey: "plugin"] = "\(name)"
        let context = PluginContext(
            name: name, descriptor: descriptor, executor: executor, logger: logger, configuration: configuration)
        let host = HostTable(logger: logger)
        let created = await executor.run { () -> Result<PluginPointer, PluginError> in
            var pointer: OpaquePointer?
            let (status, message) = host.context.lending(values) { config in
                context.callFailing("create", .lifecycle) { descriptor, error in
                    descriptor.create(host.pointer, config, &pointer, error)
                }
            }
            guard status == CHANSERV_READY else {
                return .failure(PluginError(status: status, function: "create", message: message))
            }
            guard let pointer else {
                return .failure(PluginError(.internal, "create returned CHANSERV_READY without an instance"))
            }
            return .success(PluginPointer(raw: pointer))
        }
        switch created {
        case .success(let pointer):
            return PluginInstance(
                library: library, context: context, host: host, pointer: pointer, ownThreads: ownThreads)
        case .failure(let error):
            ownThreads?.retire()
            throw error
        }
    }

    private init(
        library: PluginLibrary, context: PluginContext, host: HostTable, pointer: PluginPointer,
        ownThreads: PluginThreads?
    ) {
        self.library = library
        self.context = context
        self.host = host
        self.pointer = pointer
        self.ownThreads = ownThreads
    }

    /// Current values of the instance's counters.
    package var statistics: PluginStatistics { PluginStatistics(context.counters) }

    /// Maximum size of a request body that is served on the event loop: 64 KiB.
    private static let inlineBody = 65_536

    /// Serves a request.
    package func begin(_ request: Request, in scope: RequestScope, compression: Bool) {
        // Compressing takes too long for an event loop.
        let isInline =
            context.allowsInline && !compression && request.body.readableBytes <= Self.inlineBody
        let work = PluginRequest(scope, context, isInline: isInline)
        let instance = pointer
        if isInline, context.mayRunInline, scope.isOnNetworkThread,
            context.executor.tryRunInPlace({ work.open(request, of: instance) })
        {
            return
        }
        context.executor.submit { work.open(request, of: instance) }
    }

    /// Destroys the instance after its requests are closed. Call it once.
    ///
    /// - Parameters:
    ///   - openRequests: number of requests that did not end. If it is not 0, the instance stays in memory for ever.
    ///   - grace: maximum time to wait for lent frames, and then for destroy.
    package func destroy(openRequests: Int, grace: Duration) async -> Retirement {
        guard openRequests == 0 else {
            return leak("a function did not return in time", openRequests: openRequests)
        }
        context.lent.end()
        await Task { [context] in _ = await context.lent.allReturned.wait(until: .now + grace) }.value
        guard context.lent.allReturned.hasHappened else {
            return leak("\(context.lentFrames) lent frames were not sent or dropped in time", openRequests: 0)
        }
        let destroyed = OneTimeEvent()
        context.executor.submit { [context, pointer] in
            context.call("destroy", .lifecycle) { $0.destroy(pointer.raw) }
            destroyed.happened()
        }
        await Task { _ = await destroyed.wait(until: .now + grace) }.value
        guard destroyed.hasHappened else { return leak("destroy did not return in time", openRequests: 0) }
        ownThreads?.retire()
        return .destroyed
    }

    private func leak(_ reason: String, openRequests: Int) -> Retirement {
        ownThreads?.retire()
        context.logger.error(
            """
            plugin \(name): \(reason); the instance stays in memory with \(openRequests) open requests
            """)
        return .leaked(openCalls: openRequests)
    }
}
