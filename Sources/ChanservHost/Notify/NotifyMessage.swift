/// Notification of a service to its manager. Implements the datagrams of systemd's notify protocol (sd_notify(3))
/// without its library.
package enum NotifyMessage: Sendable, Hashable {
    /// The service is ready: for the first time, or after a reload.
    case ready(status: String)
    /// A reload began at this `CLOCK_MONOTONIC` time in microseconds. `ready` ends it.
    case reloading(at: UInt64)
    /// Status text for people.
    case status(String)
    /// The service is stopping.
    case stopping(status: String)
    /// The process is alive.
    case watchdog
    /// Another process is the service from now on.
    case mainProcess(Int32)

    /// Contents of the datagram: one assignment per line.
    package var text: String {
        switch self {
        case .ready(let status): "READY=1\nSTATUS=\(Self.line(status))"
        case .reloading(let time): "RELOADING=1\nMONOTONIC_USEC=\(time)"
        case .status(let status): "STATUS=\(Self.line(status))"
        case .stopping(let status): "STOPPING=1\nSTATUS=\(Self.line(status))"
        case .watchdog: "WATCHDOG=1"
        case .mainProcess(let pid): "MAINPID=\(pid)"
        }
    }

    /// Replaces control characters, so that a name in a status text cannot become an assignment of its own.
    private static func line(_ text: String) -> String {
        text.unicodeScalars.reduce(into: "") { line, scalar in
            line.unicodeScalars.append(scalar.properties.generalCategory == .control ? " " : scalar)
        }
    }
}
