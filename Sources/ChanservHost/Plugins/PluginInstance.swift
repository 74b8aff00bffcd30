internal import CChanservPlugin
package import Chanserv
package import Logging
internal import NIOConcurrencyHelpers

/// A plugin that runs with one configuration: what routes send their requests to.
package final class PluginInstance: Sendable {
    /// How an instance is run.
    package struct Configuration: Sendable {
        /// How long a function may take before it is logged and counted. The default is 1 s.
        package var callBudget: Duration = .seconds(1)
        /// The same for create and destroy, which may take their time. The default is 5 s.
        package var lifeBudget: Duration = .seconds(5)
        /// How many bytes of frames may be lent to the host at the same time; 0 to copy all frames. The default is 64 MiB.
        package var lentBytesLimit = LentFrames.bytesLimit
        /// Whether a `CHANSERV_PLUGIN_INLINE` plugin may be called on the network's threads. The default is `true`.
        package var allowsInline = true
        /// How many threads a `CHANSERV_PLUGIN_BLOCKING` plugin gets. The default is 16.
        package var blockingThreads = 16
        /// Called once for each function that has not returned within its budget, with a line for the operator; from any
        /// thread. Not for create and destroy.
        package var onStuck: (@Sendable (String) -> Void)?
        /// How long a function may take before `onHopeless` is called; `nil`, the default, is for ever.
        package var killAfter: Duration?
        /// Called for a function that has not returned after `killAfter`, with a line for the operator; from any thread.
        package var onHopeless: (@Sendable (String) -> Void)?

        package init() {}
    }

    /// What became of a retired instance.
    package enum Retirement: Sendable, Hashable {
        /// Everything was closed and destroy has returned.
        case destroyed
        /// A function of the plugin did not return in time: what it uses is left as it is, for ever.
        case leaked(openCalls: Int)
        /// Its process did not end by itself in time and was killed, with so many requests open.
        case killed(openCalls: Int)
    }

    /// As the configuration names the plugin.
    package var name: String { context.name }
    /// What it is an instance of.
    package let library: PluginLibrary

    private let context: PluginContext
    private let host: HostTable
    private let pointer: PluginPointer
    /// Its own threads, `nil` where they are shared.
    private let ownThreads: PluginThreads?

    /// Makes an instance by calling the plugin's create.
    ///
    /// - Parameters:
    ///   - name: as the configuration names the plugin, for logs and messages.
    ///   - library: what to make an instance of.
    ///   - values: its configuration (what stands under `config:`).
    ///   - threads: those ordinary plugins share.
    ///   - logger: gets the plugin's log with the metadata `plugin`.
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
                context.callFailing("create", .unhurried) { descriptor, error in
                    descriptor.create(host.pointer, config, &pointer, error)
                }
            }
            guard status == CHANSERV_READY else {
                return .failure(PluginError(status: status, function: "create", message: message))
            }
            guard let pointer else { return .failure(PluginError(.internal, "create made no instance")) }
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

    /// What it has done so far.
    package var statistics: PluginStatistics { PluginStatistics(context.counters) }

    /// The largest body of a request that is served on the network's thread: 64 KiB.
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

    /// Destroys the instance, when its requests are closed. Call it once.
    ///
    /// - Parameters:
    ///   - openRequests: how many requests did not end: then it is left in memory, for ever.
    ///   - grace: how long the plugin has to return from destroy.
    package func destroy(openRequests: Int, grace: Duration) async -> Retirement {
        guard openRequests == 0 else {
            return leak("a function of it did not return", openRequests: openRequests)
        }
        context.lent.end()
        await Task { [context] in _ = await context.lent.allReturned.wait(until: .now + grace) }.value
        guard context.lent.allReturned.hasHappened else {
            return leak("\(context.lentFrames) frames that it lent were not sent or dropped", openRequests: 0)
        }
        let destroyed = Event()
        context.executor.submit { [context, pointer] in
            context.call("destroy", .unhurried) { $0.destroy(pointer.raw) }
            destroyed.happened()
        }
        await Task { _ = await destroyed.wait(until: .now + grace) }.value
        guard destroyed.hasHappened else { return leak("its destroy did not return", openRequests: 0) }
        ownThreads?.retire()
        return .destroyed
    }

    private func leak(_ reason: String, openRequests: Int) -> Retirement {
        ownThreads?.retire()
        context.logger.error(
            """
            plugin \(name): \(reason) in time, so it is left in memory with \(openRequests) open calls and what they hold
            """)
        return .leaked(openCalls: openRequests)
    }
}
