import Chanserv

/// The failure of a benchmark.
struct BenchError: Error, CustomStringConvertible {
    enum Reason: Sendable {
        /// A response is wrong, or a request or a system call failed.
        case failed
        /// The host's configuration or the plugin is wrong.
        case configuration
        /// No node could be joined, no host offers the address, or the host could not be started.
        case unavailable
    }

    var reason: Reason
    var description: String

    init(_ reason: Reason, _ description: String) {
        self.reason = reason
        self.description = description
    }

    /// The exit code of the command.
    var exitCode: Int32 {
        switch reason {
        case .failed: 1
        case .configuration: 65
        case .unavailable: 69
        }
    }
}
