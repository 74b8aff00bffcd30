import FoundationEssentials
import Logging

/// How log lines are written.
enum LogFormat: String, CaseIterable {
    /// For people: time, level, logger, message and `key=value` pairs.
    case text
    /// For machines: one JSON object a line.
    case json
}

/// Writes each event as one line, whole: a line goes out in a single write.
struct LineLogHandler: LogHandler {
    var metadataProvider: Logger.MetadataProvider?
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level
    private let label: String
    private let format: LogFormat
    private let write: @Sendable (String) -> Void

    /// - Parameter write: takes each line; writes it to standard error by default.
    init(
        label: String, level: Logger.Level, format: LogFormat,
        write: @escaping @Sendable (String) -> Void = { StandardError.write($0) }
    ) {
        self.label = label
        self.logLevel = level
        self.format = format
        self.write = write
    }

    /// Makes this the handler of every logger in the process, which writes to standard error itself.
    static func bootstrap(level: Logger.Level, format: LogFormat) {
        LoggingSystem.bootstrap { LineLogHandler(label: $0, level: level, format: format) }
    }

    /// As ``bootstrap(level:format:)``, for what runs long: whoever logs does not wait for standard error.
    ///
    /// - Returns: what writes the lines; to be flushed before the process ends.
    static func bootstrapBeside(level: Logger.Level, format: LogFormat) -> LogWriter {
        let writer = LogWriter { count in
            LogLine(
                time: Date(), level: .warning, label: "chanserv",
                message: "\(count) lines of the log were left out here: nobody read it fast enough", metadata: [:]
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

/// One event with all that is known about it, ready to be written in either format.
struct LogLine {
    var time: Date
    var level: Logger.Level
    var label: String
    var message: String
    var metadata: Logger.Metadata

    /// RFC 3339 in UTC with milliseconds.
    var timestamp: String { time.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true)) }

    func text(in format: LogFormat) -> String {
        switch format {
        case .text: text
        case .json: json
        }
    }
}
