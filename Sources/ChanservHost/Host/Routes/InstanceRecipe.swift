internal import Chanserv
internal import HostConfiguration
internal import Logging
internal import PluginRuntime

/// Everything that is needed to create an instance.
struct InstanceRecipe: Sendable {
    /// The library of the instance.
    enum Code: Sendable {
        /// Loaded into this process.
        case loaded(PluginLibrary)
        /// For worker processes.
        case examined(ExaminedLibrary)
    }

    /// What the host provides to all its instances.
    struct Surroundings: Sendable {
        var threads: PluginThreads
        var logger: Logger
        /// chanserv's own executable, for worker processes.
        var program: String?
        /// Called with the reason if the instance fails outside of a request.
        var onCrash: @Sendable (String) -> Void
        /// Called with the name of the function if a call into the instance does not return.
        var onStuck: @Sendable (String) -> Void
    }

    /// The reason why an instance could not be created.
    struct Refusal: Error {
        var reason: String
        /// Whether another attempt may succeed.
        var isTemporary: Bool
    }

    var key: InstanceKey
    var code: Code
    var configuration: PluginConfiguration
    /// The first route that uses the instance, for messages.
    var route: HostConfiguration.Route

    /// Creates the instance.
    ///
    /// - Throws: ``Refusal`` with one line for the operator.
    func make(_ surroundings: Surroundings) async throws(Refusal) -> any ServingInstance {
        do throws(PluginError) {
            switch code {
            case .loaded(let library): return try await make(of: library, surroundings)
            case .examined(let library): return try await make(of: library, surroundings)
            }
        } catch {
            throw refusal(error.message, isTemporary: error.code == .busy)
        }
    }

    /// Creates and destroys the instance in a short-lived process.
    ///
    /// - Parameter program: chanserv's own executable.
    /// - Returns: the reason why ``make(_:)`` would fail; `nil` if there is none.
    func refusal(inTrialOf program: String) async -> Refusal? {
        guard case .examined(let library) = code else {
            preconditionFailure("a trial needs a library for another process")
        }
        let problem = await Preflight(program: program, reportsRefusals: true).problem(
            with: library, plugin: key.plugin, configurations: [configuration], threads: key.threads,
            options: key.isolation)
        return problem.map { refusal($0.text(of: library.path), isTemporary: $0.isTemporary) }
    }

    private func refusal(_ message: String, isTemporary: Bool) -> Refusal {
        // The message of a configuration getter already begins with a more exact position.
        let place = message.hasPrefix("\(route.location.file):") ? "" : "\(route.location): "
        return Refusal(
            reason: "\(place)\(message) (plugin '\(key.plugin)', route '\(route.vAddr)')", isTemporary: isTemporary)
    }

    private func make(
        of library: PluginLibrary, _ surroundings: Surroundings
    ) async throws(PluginError) -> any ServingInstance {
        var options = PluginInstance.Configuration()
        options.callBudget = key.isolation.callBudget
        options.onStuck = surroundings.onStuck
        options.allowsInline = key.allowsInline
        options.blockingThreads = key.threads
        return try await PluginInstance.create(
            name: key.plugin, library: library, values: configuration, threads: surroundings.threads,
            logger: surroundings.logger, configuration: options)
    }

    private func make(
        of library: ExaminedLibrary, _ surroundings: Surroundings
    ) async throws(PluginError) -> any ServingInstance {
        guard let program = surroundings.program else {
            preconditionFailure("a worker process needs the path of the program")
        }
        var logger = surroundings.logger
        logger[metadataKey: "plugin"] = "\(key.plugin)"
        return try await WorkerInstance.create(
            WorkerInstance.Handling(
                plugin: key.plugin, program: program, library: library, configuration: configuration,
                threads: key.threads, allowsInline: key.allowsInline, options: key.isolation, logger: logger),
            onCrash: surroundings.onCrash)
    }
}
