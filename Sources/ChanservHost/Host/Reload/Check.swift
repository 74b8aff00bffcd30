internal import HostConfiguration
public import Logging

extension PluginHost {
    /// Checks what ``start()`` checks, except for addresses in use, without serving: reads the configuration, loads
    /// every plugin, and creates and destroys every instance. Binds no address and joins no node, so it can run beside
    /// a running host.
    ///
    /// - Parameters:
    ///   - configurationFile: the path of the file.
    ///   - logger: receives the log messages of plugins.
    ///   - program: the `chanserv` executable, as for ``init(configurationFile:logger:program:)``.
    /// - Returns: the warnings, one line each.
    /// - Throws: ``HostError`` with code `badConfiguration` and all errors.
    public static func check(
        configurationFile: String, logger: Logger, program: String? = nil
    ) async throws(HostError) -> [String] {
        let host = PluginHost(configurationFile: configurationFile, logger: logger, program: program)
        defer { host.threads.retire() }
        let configuration: HostConfiguration
        do throws(ConfigurationErrors) {
            configuration = try await host.applier.read()
        } catch {
            throw HostError(.badConfiguration, error.errors.map(\.description))
        }
        var problems: [String] = []
        let preparation = await Preparation(configuration, tools: host.tools)
        let applied = await host.applier.apply(configuration, preparation, dryRun: true)
        if case .refused(let refusal) = applied.routes.result { problems = refusal.reasons }
        problems += ConfigurationApplier.rejections(applied, configuration)
        if let path = configuration.node.control,
            let problem = await host.threads.run({ ControlSocketFile.problem(with: path) })
        {
            problems.append(
                "\(configuration.node.controlLocation ?? ConfigurationLocation(file: configurationFile)): \(problem)")
        }
        var warnings = configuration.warnings.map(\.description)
        do throws(ConfigurationErrors) {
            warnings += try await host.applier.readCertificates(configuration.node).warnings
        } catch {
            problems += error.errors.map(\.description)
        }
        do throws(ConfigurationError) { try await host.accessLog.check(of: configuration) } catch {
            problems.append(error.description)
        }
        guard problems.isEmpty else { throw HostError(.badConfiguration, problems) }
        return warnings + preparation.warnings
    }
}
