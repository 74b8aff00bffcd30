import Chanserv

/// Why a benchmark has no figures.
struct BenchError: Error, CustomStringConvertible {
    enum Reason: Sendable {
        /// What came is not what was asked for, or something failed on the way.
        case failed
        /// The host's configuration, or the plugin, is wrong.
        case configuration
        /// Nobody could be joined, nobody offers the address, or the host could not be started.
        case unavailable
    }

    var reason: Reason
    var description: String

    init(_ reason: Reason, _ description: String) {
        self.reason = reason
        self.description = description
    }

    /// What the command ends with.
    var exitCode: Int32 {
        switch reason {
        case .failed: 1
        case .configuration: 65
        case .unavailable: 69
        }
    }
}
