internal import Glibc

/// What a service manager says in the environment of a process that it starts (sd_notify(3), sd_watchdog_enabled(3)).
package struct NotifyEnvironment: Sendable, Hashable {
    /// Where it listens: a path, or an abstract name behind `@`.
    package enum Address: Sendable, Hashable, CustomStringConvertible {
        case path(String)
        case abstract(String)

        /// As the variable has it.
        package var description: String {
            switch self {
            case .path(let path): path
            case .abstract(let name): "@\(name)"
            }
        }
    }

    package var address: Address
    /// How often to say that the process is alive: twice in the time after which it is taken for dead. `nil`: not at all.
    package var watchdogInterval: Duration?
    /// What is wrong with what is said of the watchdog; the rest counts all the same.
    package var watchdogProblem: String?

    /// A manager that wants to hear more often hears this often. 10 ms.
    package static let shortestInterval = Duration.milliseconds(10)
    private static let names = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"]
    /// As of any Unix socket; an abstract name has its zero byte in front instead of behind.
    private static let longestAddress = 107

    /// - Parameters:
    ///   - variables: the environment.
    ///   - pid: this process.
    /// - Returns: `nil` where no manager asks to be told.
    /// - Throws: where the address makes no sense.
    package init?(_ variables: [String: String], pid: Int32) throws(NotifyError) {
        guard let text = variables["NOTIFY_SOCKET"], !text.isEmpty else { return nil }
        guard text.utf8.count <= Self.longestAddress, text.utf8.count > 1 else {
            throw NotifyError("NOTIFY_SOCKET is no address of a socket: \(quoted(text))")
        }
        switch text.first {
        case "/": address = .path(text)
        case "@": address = .abstract(String(text.dropFirst()))
        default: throw NotifyError("NOTIFY_SOCKET is neither a path nor an abstract name: \(quoted(text))")
        }
        // Meant for the process with that number: a child that inherited the variable is another.
        if let theirs = variables["WATCHDOG_PID"], theirs != "\(pid)" { return }
        guard let time = variables["WATCHDOG_USEC"] else { return }
        guard let microseconds = Int64(time), microseconds > 0 else {
            watchdogProblem = "WATCHDOG_USEC is no time in microseconds: \(quoted(time))"
            return
        }
        watchdogInterval = max(.microseconds(microseconds / 2), Self.shortestInterval)
    }

    /// Takes the variables out of this process's environment, so that its children do not take themselves for it.
    ///
    /// To be called while there is one thread that touches the environment.
    package static func take() -> [String: String] {
        var variables: [String: String] = [:]
        for name in names {
            if let value = getenv(name) { variables[name] = String(cString: value) }
            unsetenv(name)
        }
        return variables
    }
}

/// Why the service manager cannot be told.
package struct NotifyError: Error, Hashable, CustomStringConvertible {
    package var description: String

    init(_ description: String) { self.description = description }
}
