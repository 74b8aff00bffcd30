internal import HostConfiguration

/// The reason why an operation on a route failed.
public struct RouteError: Error, Sendable, Hashable {
    public enum Reason: Sendable, Hashable {
        /// The route does not exist; `nearest` is the most similar vAddr.
        case unknown(nearest: String?)
        /// The host is stopping.
        case stopping
        /// A reload runs, which may change the route.
        case reloading
        /// No earlier version of the route's plugin is ready.
        case noProbation
    }

    public var reason: Reason
    /// The vAddr that the caller asked for.
    public var vAddr: String

    init(_ reason: Reason, _ vAddr: String) {
        self.reason = reason
        self.vAddr = vAddr
    }
}

extension RouteError: CustomStringConvertible {
    public var description: String {
        switch reason {
        case .unknown(let nearest):
            "there is no route \(quoted(vAddr))" + (nearest.map { "; did you mean \(quoted($0))?" } ?? "")
        case .stopping: "the host is stopping"
        case .reloading: "a reload is running: run the command again when it has ended"
        case .noProbation:
            "route \(quoted(vAddr)) is not on probation (see 'deploy.probation')"
        }
    }
}
