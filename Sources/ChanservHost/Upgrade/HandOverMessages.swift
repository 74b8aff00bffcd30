/// The version of the hand-over between two hosts: `listeners` and `hand_over` on the control socket.
package enum HandOver {
    /// The version that this host speaks.
    package static let version = 1
}

/// The listening sockets of a host. Their descriptors are sent together with the first byte of the answer
/// (`docs/control.md`).
package struct ListenersReport: Codable, Sendable, Hashable {
    /// The id of the host's process.
    package var pid: Int32
    /// The addresses in the configuration of the host, in the order of the descriptors.
    package var addresses: [String]
}

/// The answer to `hand_over`.
package struct HandOverReport: Codable, Sendable, Hashable {
    /// The id of the process that was replaced.
    package var pid: Int32
}

package typealias ListenersAnswer = ControlAnswer<Nothing, ListenersReport>
package typealias HandOverAnswer = ControlAnswer<Nothing, HandOverReport>
package typealias UpgradeAnswer = ControlAnswer<Nothing, UpgradeOutcome>

/// The outcome of an upgrade. Its encoding is sent over the control socket (`docs/control.md`).
package struct UpgradeOutcome: Codable, Sendable, Hashable {
    package enum Result: String, Codable, Sendable {
        /// A new process serves. The process that answers lets its requests end.
        case upgraded
        /// The new process did not start. Nothing has changed.
        case failed
    }

    package var result: Result
    /// The id of the process that serves.
    package var pid: Int32
    /// The errors, one line each; empty after success.
    package var reasons: [String]
    /// The exit code of the new process; missing after success, and if it has none.
    package var exitCode: Int32?

    private enum CodingKeys: String, CodingKey {
        case result, pid, reasons
        case exitCode = "exit_code"
    }

    package init(_ result: Result, pid: Int32, reasons: [String] = [], exitCode: Int32? = nil) {
        self.result = result
        self.pid = pid
        self.reasons = reasons
        self.exitCode = exitCode
    }
}
