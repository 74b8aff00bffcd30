internal import Chanserv
internal import Logging

/// What an instance is made from.
struct InstanceRecipe: Sendable {
    /// Its library.
    enum Code: Sendable {
        /// In this process.
        case loaded(PluginLibrary)
        /// For processes of its own.
        case examined(ExaminedLibrary)
    }

    /// What a host gives to all its instances.
    struct Surroundings: Sendable {
        var threads: PluginThreads
        var logger: Logger
        /// chanserv's own executable, for processes.
        var program: String?
        /// The instance failed by itself, outside of any request: why.
        var onCrash: @Sendable (String) -> Void
        /// A function of it does not return: which.
        var onStuck: @Sendable (String) -> Void
    }

    /// Why an instance could not be made.
    struct Refusal: Error {
        var reason: String
        /// It may go well another time.
        var mayPass: Bool
    }

    var key: InstanceKey
    var code: Code
    var configuration: PluginConfiguration
    /// The first route that needs it, for messages.
    var route: HostConfiguration.Route

    /// Makes the instance.
    ///
    /// - Throws: one line for the operator.
    func make(_ surroundings: Surroundings) async throws(Refusal) -> any ServingInstance {
        do throws(PluginError) {
            switch code {
            case .loaded(let library): return try await make(of: library, surroundings)
            case .examined(let library): return try await make(of: library, surroundings)
            }
        } catch {
            // A getter's message knows the place better than the route does.
            let file = route.location.file
            let place = error.message.hasPrefix("\(file):") ? "" : "\(route.location): "
            throw Refusal(
                reason: "\(place)\(error.message) (plugin '\(key.plugin)', route '\(route.vAddr)')",
                mayPass: error.code == .busy)
        }
    }

    private func make(
        of library: PluginLibrary, _ surroundings: Surroundings
    ) async throws(PluginError) -> any ServingInstance {
        var options = PluginInstance.Configuration()
        options.callBudget = key.isolation.callBudget
        options.onStuck = surroundings.onStuck
        options.allowsInline = key.allowsInline
        if let count = key.threads { options.blockingThreads = count }
        return try await PluginInstance.create(
            name: key.plugin, library: library, values: configuration, threads: surroundings.threads,
            logger: surroundings.logger, configuration: options)
    }

    private func make(
        of library: ExaminedLibrary, _ surroundings: Surroundings
    ) async throws(PluginError) -> any ServingInstance {
        guard let program = surroundings.program else {
            preconditionFailure("a host without a program has no processes")
        }
        var logger = surroundings.logger
        logger[metadataKey: "plugin"] = "\(key.plugin)"
        return try await WorkerInstance.create(
            WorkerInstance.Recipe(
                plugin: key.plugin, program: program, library: library, configuration: configuration,
                threads: key.threads, allowsInline: key.allowsInline, options: key.isolation, logger: logger),
            onCrash: surroundings.onCrash)
    }
}
