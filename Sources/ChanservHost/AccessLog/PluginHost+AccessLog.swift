internal import Chanserv
internal import HostConfiguration
internal import Logging

extension PluginHost {
    /// An access log that is open and not in use yet.
    enum OpenedAccessLog {
        case off
        /// The host's own log.
        case log
        case file(AccessLogFile)
    }

    /// Opens the access log of a configuration.
    ///
    /// - Throws: ``ConfigurationError`` if the file cannot be opened.
    func openAccessLog(of configuration: HostConfiguration) async throws(ConfigurationError) -> OpenedAccessLog {
        switch configuration.log.access {
        case .off: return .off
        case .log: return .log
        case .file(let path):
            let (format, logger) = (accessLogFormat, logger)
            let result = await threads.run { () -> Result<AccessLogFile, AccessLogError> in
                do throws(AccessLogError) {
                    return .success(
                        try AccessLogFile(path, format: format, node: configuration.node.name, logger: logger))
                } catch {
                    return .failure(error)
                }
            }
            switch result {
            case .success(let file): return .file(file)
            case .failure(let error): throw Self.error(error.description, configuration)
            }
        }
    }

    /// Checks what ``openAccessLog(of:)`` checks, and creates no file.
    func checkAccessLog(of configuration: HostConfiguration) async throws(ConfigurationError) {
        guard case .file(let path) = configuration.log.access else { return }
        if let problem = await threads.run({ AccessLogFile.problem(with: path) }) {
            throw Self.error(problem, configuration)
        }
    }

    private static func error(_ message: String, _ configuration: HostConfiguration) -> ConfigurationError {
        ConfigurationError(
            message, at: configuration.log.accessLocation ?? ConfigurationLocation(file: configuration.file))
    }

    /// Logs the requests that end from now on.
    func use(_ log: OpenedAccessLog) {
        let former = accessLog
        switch log {
        case .off:
            accessLog = nil
            table.open.log.set(nil)
        case .log:
            accessLog = nil
            let logger = logger
            table.open.log.set { Self.log($0, to: logger) }
        case .file(let file):
            accessLog = file
            table.open.log.set { file.record($0) }
        }
        if let former { Task { await flush(former) } }
    }

    /// Writes the lines that are queued, within 1 s.
    func flush(_ file: AccessLogFile) async {
        await threads.run { file.flush(within: .seconds(1)) }
    }

    private nonisolated static func log(_ request: RequestSummary, to logger: Logger) {
        var metadata: Logger.Metadata = [:]
        // The logger adds the time and the name of the node.
        for (key, value) in AccessLine(time: .now, request: request, node: nil).values {
            metadata[key] =
                switch value {
                case .text(let text): .string(text)
                case .integer(let number): .stringConvertible(number)
                case .milliseconds(let number): .stringConvertible(number)
                }
        }
        logger.info("route '\(request.vAddr)': request \(request.result.rawValue)", metadata: metadata)
    }
}
