internal import Chanserv
internal import HostConfiguration
internal import Logging
internal import NIOConcurrencyHelpers
internal import PluginRuntime

/// The access log of a host, which a reload can replace.
final class AccessLog: Sendable {
    /// An access log that is open and not in use yet.
    enum Opened: Sendable {
        case off
        /// The host's own log.
        case log(Logger)
        case file(AccessLogFile)
    }

    private let requests: RequestLog
    private let format: AccessLogFormat
    /// The threads for calls that block on the file system.
    private let threads: PluginThreads
    /// The file in use; `nil` without one.
    private let file = NIOLockedValueBox<AccessLogFile?>(nil)

    /// - Parameters:
    ///   - requests: reports the end of each request of the host.
    ///   - format: the format of the file.
    init(_ requests: RequestLog, format: AccessLogFormat, threads: PluginThreads) {
        self.requests = requests
        self.format = format
        self.threads = threads
    }

    /// Opens the access log of a configuration.
    ///
    /// - Parameter logger: the host's own log.
    /// - Throws: ``ConfigurationError`` if the file cannot be opened.
    func open(of configuration: HostConfiguration, logger: Logger) async throws(ConfigurationError) -> Opened {
        switch configuration.log.access {
        case .off: return .off
        case .log: return .log(logger)
        case .file(let path):
            let format = format
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

    /// Checks what ``open(of:logger:)`` checks, and creates no file.
    func check(of configuration: HostConfiguration) async throws(ConfigurationError) {
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
    func use(_ log: Opened) {
        let former = file.withLockedValue { file in
            defer { if case .file(let new) = log { file = new } else { file = nil } }
            return file
        }
        switch log {
        case .off: requests.set(nil)
        case .log(let logger): requests.set { Self.log($0, to: logger) }
        case .file(let file): requests.set { file.record($0) }
        }
        if let former { Task { await flush(former) } }
    }

    /// Opens the file again, after it was renamed by a log rotation.
    func reopen() {
        file.withLockedValue { $0 }?.reopen()
    }

    /// Writes the lines that are queued, within 1 s.
    func flush() async {
        if let file = file.withLockedValue({ $0 }) { await flush(file) }
    }

    private func flush(_ file: AccessLogFile) async {
        await threads.run { file.flush(within: .seconds(1)) }
    }

    /// See ``HostStatus/accessLog``.
    var status: HostStatus.AccessLog? {
        file.withLockedValue { $0 }.map {
            let counts = $0.counts
            return HostStatus.AccessLog(path: $0.path, written: counts.written, lost: counts.lost)
        }
    }

    private static func log(_ request: RequestSummary, to logger: Logger) {
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
