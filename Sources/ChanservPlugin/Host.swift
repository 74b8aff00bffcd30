import CChanservPlugin

/// The functions of the host's table that may be used at any time and from any thread.
struct Host: Sendable {
    // Safe to share: the ABI guarantees that the table stays readable until the process ends, and that `wake` and `log`
    // may be called from any thread.
    nonisolated(unsafe) private let table: UnsafePointer<chanserv_host>

    init(_ table: UnsafePointer<chanserv_host>) {
        self.table = table
    }

    func wake(_ handle: UInt64) {
        table.pointee.wake(table, handle)
    }

    func log(_ level: Int, _ message: String) {
        var message = message
        message.withUTF8 { bytes in
            bytes.withMemoryRebound(to: CChar.self) { characters in
                guard let start = characters.baseAddress else { return }  // an empty message
                table.pointee.log(table, Int32(level), start, characters.count)
            }
        }
    }
}

/// Writes messages to the host's log, with the plugin's name. Never blocks.
public struct Log: Sendable {
    let host: Host

    /// Logs details for debugging the plugin.
    public func debug(_ message: String) {
        host.log(CHANSERV_LOG_DEBUG, message)
    }

    /// Logs information that may be of interest to an operator.
    public func info(_ message: String) {
        host.log(CHANSERV_LOG_INFO, message)
    }

    /// Logs a condition that an operator should know.
    public func warning(_ message: String) {
        host.log(CHANSERV_LOG_WARNING, message)
    }

    /// Logs a failure that needs action by an operator.
    public func error(_ message: String) {
        host.log(CHANSERV_LOG_ERROR, message)
    }
}
