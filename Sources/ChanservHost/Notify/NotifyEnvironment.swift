internal import Glibc
internal import HostConfiguration

/// Environment variables with which a service manager configures notifications (sd_notify(3), sd_watchdog_enabled(3)).
package struct NotifyEnvironment: Sendable, Hashable {
    /// Address of the manager's socket: a path, or an abstract name, which the variable marks with `@`.
    package enum Address: Sendable, Hashable, CustomStringConvertible {
        case path(String)
        case abstract(String)

        /// The address as written in the variable.
        package var description: String {
            switch self {
            case .path(let path): path
            case .abstract(let name): "@\(name)"
            }
        }
    }

    package var address: Address
    /// Interval of the watchdog messages: half of the manager's timeout. `nil` sends none.
    package var watchdogInterval: Duration?
    /// Problem of the watchdog variables. The other variables are valid nevertheless.
    package var watchdogProblem: String?

    /// Minimum interval of the watchdog messages: 10 ms. It also applies if the manager requests a shorter one.
    package static let shortestInterval = Duration.milliseconds(10)
    private static let names = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"]
    /// Maximum length of a Unix socket address in bytes. An abstract name has its zero byte at the start instead of the
    /// end.
    private static let longestAddress = 107

    /// - Parameters:
    ///   - variables: the environment.
    ///   - pid: id of this process.
    /// - Returns: `nil` if no manager requests notifications.
    /// - Throws: ``NotifyError`` if the address is invalid.
    package init?(_ variables: [String: String], pid: Int32) throws(NotifyError) {
        guard let text = variables["NOTIFY_SOCKET"], !text.isEmpty else { return nil }
        guard text.utf8.count <= Self.longestAddress, text.utf8.count > 1 else {
            throw NotifyError("NOTIFY_SOCKET is not a socket address: \(quoted(text))")
        }
        switch text.first {
        case "/": address = .path(text)
        case "@": address = .abstract(String(text.dropFirst()))
        default: throw NotifyError("NOTIFY_SOCKET is neither a path nor an abstract name: \(quoted(text))")
        }
        // The watchdog variables apply only to the process with that id, not to a child that inherited them.
        if let theirs = variables["WATCHDOG_PID"], theirs != "\(pid)" { return }
        guard let time = variables["WATCHDOG_USEC"] else { return }
        guard let microseconds = Int64(time), microseconds > 0 else {
            watchdogProblem = "WATCHDOG_USEC is not a time in microseconds: \(quoted(time))"
            return
        }
        watchdogInterval = max(.microseconds(microseconds / 2), Self.shortestInterval)
    }

    /// The variables for another process that notifies the same manager.
    package var variables: [String] {
        // Without WATCHDOG_PID, the interval applies to the process that gets it.
        ["NOTIFY_SOCKET=\(address)"]
            + (watchdogInterval.map { ["WATCHDOG_USEC=\(Int64($0 * 2 / .microseconds(1)))"] } ?? [])
    }

    /// Returns the variables and removes them from this process's environment, so that child processes do not use them.
    ///
    /// Must be called while no other thread accesses the environment.
    package static func take() -> [String: String] {
        var variables: [String: String] = [:]
        for name in names {
            if let value = getenv(name) { variables[name] = String(cString: value) }
            unsetenv(name)
        }
        return variables
    }
}

/// Error that prevents notifications to the service manager.
package struct NotifyError: Error, Hashable, CustomStringConvertible {
    package var description: String

    init(_ description: String) { self.description = description }
}
