/// What a service tells its manager: the datagrams of systemd's notify protocol (sd_notify(3)), without its library.
package enum NotifyMessage: Sendable, Hashable {
    /// It serves: for the first time, or after a reload.
    case ready(status: String)
    /// A reload begins, at this time of `CLOCK_MONOTONIC`, in microseconds; `ready` ends it.
    case reloading(at: UInt64)
    /// What it is doing, for people.
    case status(String)
    /// It is ending.
    case stopping(status: String)
    /// It is alive.
    case watchdog

    /// The datagram: assignments, one a line.
    package var text: String {
        switch self {
        case .ready(let status): "READY=1\nSTATUS=\(Self.line(status))"
        case .reloading(let time): "RELOADING=1\nMONOTONIC_USEC=\(time)"
        case .status(let status): "STATUS=\(Self.line(status))"
        case .stopping(let status): "STOPPING=1\nSTATUS=\(Self.line(status))"
        case .watchdog: "WATCHDOG=1"
        }
    }

    /// A name in a text must not become an assignment of its own.
    private static func line(_ text: String) -> String {
        text.unicodeScalars.reduce(into: "") { line, scalar in
            line.unicodeScalars.append(scalar.properties.generalCategory == .control ? " " : scalar)
        }
    }
}
