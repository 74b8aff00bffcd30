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

    private struct State {
        var life = InstanceLife()
        var calls: [ObjectIdentifier: PluginCall] = [:]
        /// What calls that open from now on are ended with at once.
        var termination: PluginError?
    }

    /// As the configuration names the plugin.
    package var name: String { context.name }
    /// What it is an instance of.
    package let library: PluginLibrary

    private let context: PluginContext
    private let host: HostTable
    private let pointer: PluginPointer
    private let sharedThreads: PluginThreads
    /// Its own threads, `nil` where they are shared.
    private let ownThreads: PluginThreads?
    private let state = NIOLockedValueBox(State())
    private let drained = Event()

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
                library: library, context: context, host: host, pointer: pointer, sharedThreads: threads,
                ownThreads: ownThreads)
        case .failure(let error):
            ownThreads?.retire()
            throw error
        }
    }

    private init(
        library: PluginLibrary, context: PluginContext, host: HostTable, pointer: PluginPointer,
        sharedThreads: PluginThreads, ownThreads: PluginThreads?
    ) {
        self.library = library
        self.context = context
        self.host = host
        self.pointer = pointer
        self.sharedThreads = sharedThreads
        self.ownThreads = ownThreads
    }

    /// Where tasks that serve its requests are best run: the shared threads, so that a poll is a plain call. Polls of a
    /// plugin that blocks, or is serial, hop from there to where it runs, so that they hold up nothing else of a request.
    package var executor: any PluginExecutor { sharedThreads }

    /// Whether requests can be opened: until ``retire(deadline:grace:reason:)`` has begun.
    package var isServing: Bool { state.withLockedValue { $0.life.phase == .serving } }

    /// What it has done so far.
    package var statistics: PluginStatistics { PluginStatistics(context.counters) }

    /// Serves a request.
    ///
    /// - Parameter onEnd: called once when nothing of the request is left in the plugin, also where this throws.
    /// - Throws: ``PluginError``: the plugin's, or `withdrawn` once ``retire(deadline:grace:reason:)`` has begun.
    package func open(
        _ request: Request, onEnd: @escaping @Sendable () -> Void = {}
    ) async throws(PluginError) -> PluginSources {
        guard state.withLockedValue({ $0.life.beginCall() }) else {
            onEnd()
            throw state.withLockedValue { $0.termination }
                ?? PluginError(.withdrawn, "plugin \(name) is being replaced")
        }
        let executor = context.executor
        let opened =
            if executor.isCurrent { openHere(request) } else { await executor.run { self.openHere(request) } }
        switch opened {
        case .failure(let error):
            callEnded(nil)
            onEnd()
            throw error
        case .success(let pointer):
            let call = PluginCall(pointer, context: context) { call in
                self.callEnded(call)
                onEnd()
            }
            let termination = state.withLockedValue { state in
                state.calls[ObjectIdentifier(call)] = call
                return state.termination
            }
            if let termination { call.terminate(termination) }
            return PluginSources(call)
        }
    }

    private func openHere(_ request: Request) -> Result<PluginPointer, PluginError> {
        var pointer: OpaquePointer?
        let (status, message) = request.withPluginRequest { plain in
            context.callFailing("open") { descriptor, error in
                descriptor.open(self.pointer.raw, plain, &pointer, error)
            }
        }
        guard status == CHANSERV_READY else {
            return .failure(PluginError(status: status, function: "open", message: message))
        }
        guard let pointer else { return .failure(PluginError(.internal, "open made no call")) }
        return .success(PluginPointer(raw: pointer))
    }

    private func callEnded(_ call: PluginCall?) {
        let isDrained = state.withLockedValue { state in
            if let call { state.calls[ObjectIdentifier(call)] = nil }
            return state.life.endCall()
        }
        if isDrained { drained.happened() }
    }

    /// Takes the instance out of service: lets no new calls begin, waits for the open ones, ends them at the deadline,
    /// and destroys it. Call it once.
    ///
    /// - Parameters:
    ///   - deadline: when open calls are ended with an error; a cancelled task ends them at once.
    ///   - grace: how long the plugin then has to return from the functions it is in, and from destroy. Default 10 s.
    ///   - reason: for the clients whose requests are ended.
    package func retire(
        deadline: ContinuousClock.Instant, grace: Duration = .seconds(10), reason: String? = nil
    ) async -> Retirement {
        let isDrained = state.withLockedValue { state in
            precondition(state.life.phase == .serving, "plugin \(name) is retired twice")
            state.life.drain()
            return state.life.isDrained
        }
        if isDrained { drained.happened() }
        if await !drained.wait(until: deadline) {
            let error = PluginError(
                .withdrawn, reason ?? "plugin \(name) was replaced and its time to drain is over")
            let calls = state.withLockedValue { state in
                state.life.end()
                state.termination = error
                return Array(state.calls.values)
            }
            for call in calls { call.terminate(error) }
            // Not cut short by this task's cancellation: what was asked for is an orderly end.
            await Task { _ = await self.drained.wait(until: .now + grace) }.value
        }
        guard drained.hasHappened else { return leak("a function of it did not return") }
        // What it lent is the host's until it is released, and destroy frees it.
        context.lent.end()
        await Task { _ = await self.context.lent.allReturned.wait(until: .now + grace) }.value
        guard context.lent.allReturned.hasHappened else {
            return leak("\(context.lentFrames) frames that it lent were not sent or dropped")
        }
        let destroyed = Event()
        context.executor.submit { [context, pointer] in
            context.call("destroy", .unhurried) { $0.destroy(pointer.raw) }
            destroyed.happened()
        }
        await Task { _ = await destroyed.wait(until: .now + grace) }.value
        guard destroyed.hasHappened else { return leak("its destroy did not return") }
        state.withLockedValue { $0.life.finish() }
        ownThreads?.retire()
        return .destroyed
    }

    private func leak(_ reason: String) -> Retirement {
        let calls = state.withLockedValue { state in
            state.life.finish()
            return state.life.calls
        }
        ownThreads?.retire()
        context.logger.error(
            "plugin \(name): \(reason) in time, so it is left in memory with \(calls) open calls and what they hold")
        return .leaked(openCalls: calls)
    }
}
