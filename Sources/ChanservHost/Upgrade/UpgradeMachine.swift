/// State machine of the replacement of a host by another process, in the host that is replaced.
///
/// A process that takes over first asks for the listening sockets, which changes nothing. It asks for the hand-over
/// when it is ready to accept connections. From then on this host accepts none, and lets its requests end.
package struct UpgradeMachine: Sendable, Hashable {
    package enum Phase: Sendable, Hashable {
        case serving
        /// A new process is being started; its id is not known yet.
        case starting
        /// A process that this host has started prepares itself.
        case preparing(Int32)
        /// This process serves.
        case handedOver(Int32)
    }

    private(set) package var phase = Phase.serving
    /// The last process that this host has given up. A late request of it must not end the service.
    private var abandoned: Int32?

    package init() {}

    /// The process that serves instead of this host; `nil` before the hand-over.
    package var successor: Int32? {
        guard case .handedOver(let pid) = phase else { return nil }
        return pid
    }

    /// Handles the request of an operator to start a new process.
    ///
    /// - Returns: the reason to refuse it; `nil` to start the process.
    package mutating func requested() -> String? {
        switch phase {
        case .serving:
            phase = .starting
            return nil
        case .starting, .preparing: return "an upgrade is in progress"
        case .handedOver(let pid): return "process \(pid) has taken over already"
        }
    }

    /// Handles that the new process runs, or could not be started.
    ///
    /// - Parameter pid: the id of the process; `nil` if it could not be started.
    package mutating func started(_ pid: Int32?) {
        // The process may have taken over before its id was known here.
        guard phase == .starting else { return }
        phase = pid.map { .preparing($0) } ?? .serving
    }

    /// Handles the request of a process to take over.
    ///
    /// - Returns: the reason to refuse it; `nil` to hand over.
    package mutating func askedToHandOver(by pid: Int32) -> String? {
        switch phase {
        case .serving where pid == abandoned: return "process \(pid) took too long and was given up"
        case .preparing(let other) where pid != other: return "process \(other) is taking over"
        case .handedOver(let other): return "process \(other) has taken over already"
        case .serving, .starting, .preparing:
            phase = .handedOver(pid)
            return nil
        }
    }

    /// Handles that the wait for a process that this host has started is over.
    ///
    /// - Returns: whether the process has taken over.
    package mutating func finished(_ pid: Int32) -> Bool {
        if case .preparing(pid) = phase {
            phase = .serving
            abandoned = pid
        }
        return successor == pid
    }
}
