/// One line of an answer. An answer is any number of lines with `progress`, then one with `result` or `error`.
package struct ControlAnswer<Progress: Codable & Sendable, Result: Codable & Sendable>: Codable, Sendable {
    package var progress: Progress?
    package var result: Result?
    package var error: ControlError?

    package static func progress(_ progress: Progress) -> Self { Self(progress: progress) }
    package static func result(_ result: Result) -> Self { Self(result: result) }
    package static func error(_ error: ControlError) -> Self { Self(error: error) }
}

/// The content of an answer that carries no values.
package struct Nothing: Codable, Sendable, Hashable {}

package typealias StatusAnswer = ControlAnswer<HostStatus, HostStatus>
package typealias RequestsAnswer = ControlAnswer<RequestsReport, RequestsReport>
package typealias LinksAnswer = ControlAnswer<LinksReport, LinksReport>
package typealias CancelAnswer = ControlAnswer<Nothing, CancelReport>
package typealias ReloadAnswer = ControlAnswer<Nothing, ReloadOutcome>
package typealias DrainAnswer = ControlAnswer<DrainReport.Progress, DrainReport>
package typealias EnableAnswer = ControlAnswer<Nothing, EnableReport>
package typealias DeployAnswer = ControlAnswer<Nothing, DeployReport>

/// The outcome of a drain as sent over the control socket.
package struct DrainReport: Codable, Sendable, Hashable {
    package enum Result: String, Codable, Sendable {
        /// All requests of the route have ended.
        case drained
        /// The route was enabled during the drain, or the host is stopping.
        case givenUp = "given_up"
    }

    package var vaddr: String
    package var result: Result
    /// Requests that were cancelled at the deadline, with their sources.
    package var cancelled: Int

    /// The requests and sources that have not ended.
    package struct Progress: Codable, Sendable, Hashable {
        package var requests: Int
        package var sources: Int
    }
}

/// The outcome of `enable` as sent over the control socket.
package struct EnableReport: Codable, Sendable, Hashable {
    package var vaddr: String
    /// Whether the route was withdrawn before.
    package var changed: Bool
}

/// The outcome of `rollback` and `promote` as sent over the control socket.
package struct DeployReport: Codable, Sendable, Hashable {
    package var vaddr: String
    /// The version that serves the route: `quotes@9f86d081`.
    package var version: String
}
