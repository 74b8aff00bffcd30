import CChanservPlugin

/// The part of the host's table that may be used at any time and from any thread.
struct Host: Sendable {
    // Safe to share: the header promises that the table stays readable, and `wake` and `log` callable from any thread,
    // until the process ends.
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
                guard let start = characters.baseAddress else { return }  // nothing to say
                table.pointee.log(table, Int32(level), start, characters.count)
            }
        }
    }
}

/// Writes lines to the host's log, under the plugin's name. Never blocks.
public struct Log: Sendable {
    let host: Host

    /// For whoever looks for a mistake in the plugin.
    public func debug(_ message: String) {
        host.log(CHANSERV_LOG_DEBUG, message)
    }

    /// What an operator may want to know.
    public func info(_ message: String) {
        host.log(CHANSERV_LOG_INFO, message)
    }

    /// What an operator should know.
    public func warning(_ message: String) {
        host.log(CHANSERV_LOG_WARNING, message)
    }

    /// What an operator should do something about.
    public func error(_ message: String) {
        host.log(CHANSERV_LOG_ERROR, message)
    }
}
