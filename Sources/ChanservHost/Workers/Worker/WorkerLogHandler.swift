internal import Glibc
internal import Logging

/// Log handler of a worker process. Writes lines with a level prefix to standard error, for ``WorkerOutput``. Each
/// message is written before the call returns, so that messages before a crash are not lost.
struct WorkerLogHandler: LogHandler {
    var metadata: Logger.Metadata = [:]
    var metadataProvider: Logger.MetadataProvider?
    var logLevel: Logger.Level

    init(level: Logger.Level) {
        logLevel = level
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let digit = WorkerOutput.digit(of: event.level)
        var bytes: [UInt8] = []
        for line in event.message.description.split(separator: "\n") {
            bytes += Array("<\(digit)>\(line)\n".utf8)
        }
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress! + written, $0.count - written) }
            if count > 0 {
                written += count
            } else if count < 0, errno != EINTR {
                // The host has ended, and this process ends soon.
                return
            }
        }
    }
}
