import FoundationEssentials
import Logging

/// The format of log lines.
enum LogFormat: String, CaseIterable {
    /// Human-readable: time, level, logger, message and `key=value` pairs.
    case text
    /// Machine-readable: one JSON object per line.
    case json
}

/// A log handler that writes each event as one line.
struct LineLogHandler: LogHandler {
    var metadataProvider: Logger.MetadataProvider?
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level
    private let label: String
    private let format: LogFormat
    private let write: @Sendable (String) -> Void

    /// - Parameter write: writes a line without its line feed; by default to standard error.
    init(
        label: String, level: Logger.Level, format: LogFormat,
        write: @escaping @Sendable (String) -> Void = { StandardError.write($0) }
    ) {
        self.label = label
        self.logLevel = level
        self.format = format
        self.write = write
    }

    /// Installs this handler for all loggers of the process. Loggers write to standard error synchronously.
    static func bootstrap(level: Logger.Level, format: LogFormat) {
        LoggingSystem.bootstrap { LineLogHandler(label: $0, level: level, format: format) }
    }

    /// Installs this handler for all loggers of the process. Loggers do not wait for standard error.
    ///
    /// For processes that run for a long time.
    ///
    /// - Returns: the writer of the lines. The caller flushes it before the process ends.
    static func bootstrapSecondary(level: Logger.Level, format: LogFormat) -> LogWriter {
        let writer = LogWriter { count in
            LogLine(
                time: Date(), level: .warning, label: "chanserv",
                message: "dropped \(count) log lines here: standard error was not read fast enough", metadata: [:]
            ).text(in: format)
        }
        LoggingSystem.bootstrap {
            LineLogHandler(label: $0, level: level, format: format) { writer.write($0) }
        }
        return writer
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var metadata = self.metadata
        if let provided = metadataProvider?.get() { metadata.merge(provided) { $1 } }
        if let own = event.metadata { metadata.merge(own) { $1 } }
        if let error = event.error { metadata["error"] = "\(error)" }
        let line = LogLine(
            time: Date(), level: event.level, label: label, message: event.message.description, metadata: metadata)
        write(line.text(in: format))
    }
}

/// A log event that can be written in either format.
package struct LogLine {
    var time: Date
    var level: Logger.Level
    var label: String
    var message: String
    var metadata: Logger.Metadata

    package init(time: Date, level: Logger.Level, label: String, message: String, metadata: Logger.Metadata) {
        self.time = time
        self.level = level
        self.label = label
        self.message = message
        self.metadata = metadata
    }

    /// The time as RFC 3339 in UTC with milliseconds.
    var timestamp: String { time.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true)) }

    func text(in format: LogFormat) -> String {
        switch format {
        case .text: text
        case .json: json
        }
    }
}
