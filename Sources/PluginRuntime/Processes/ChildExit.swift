internal import Glibc

/// Manner in which a process ended.
package enum ChildExit: Sendable, Hashable {
    /// The process exited with this code.
    case exited(Int32)
    /// This signal killed the process.
    case signalled(Int32)
    /// The manner is unknown, because other code in this process has waited for the child.
    case unknown

    /// Whether the process exited with code 0.
    package var isSuccess: Bool { self == .exited(0) }
}

extension ChildExit: CustomStringConvertible {
    /// Completes "the process …". Examples: `exited with code 3`, `was killed by SIGABRT (it called abort)`, `ended`.
    package var description: String {
        switch self {
        case .exited(let code): "exited with code \(code)"
        case .signalled(let number): "was killed by \(Self.name(of: number))"
        case .unknown: "ended"
        }
    }

    private static func name(of signal: Int32) -> String {
        switch signal {
        case SIGABRT: "SIGABRT (it called abort)"
        case SIGBUS: "SIGBUS (invalid memory access)"
        case SIGFPE: "SIGFPE (an arithmetic fault)"
        case SIGHUP: "SIGHUP"
        case SIGILL: "SIGILL (a trap or an illegal instruction)"
        case SIGINT: "SIGINT"
        case SIGKILL: "SIGKILL"
        case SIGPIPE: "SIGPIPE"
        case SIGQUIT: "SIGQUIT"
        case SIGSEGV: "SIGSEGV (invalid memory access or stack overflow)"
        case SIGSYS: "SIGSYS (a forbidden system call)"
        case SIGTERM: "SIGTERM"
        case SIGTRAP: "SIGTRAP (a trap)"
        case SIGXCPU: "SIGXCPU (its processor time was used up)"
        case SIGXFSZ: "SIGXFSZ (a file grew too large)"
        default: "signal \(signal)"
        }
    }
}
