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

package typealias StatusAnswer = ControlAnswer<StatusReport, StatusReport>
package typealias RequestsAnswer = ControlAnswer<RequestsReport, RequestsReport>
package typealias CancelAnswer = ControlAnswer<Nothing, CancelReport>
package typealias ReloadAnswer = ControlAnswer<Nothing, ReloadReport>
package typealias DrainAnswer = ControlAnswer<DrainReport.Progress, DrainReport>
package typealias EnableAnswer = ControlAnswer<Nothing, EnableReport>

/// The outcome of a reload as sent over the control socket.
package struct ReloadReport: Codable, Sendable, Hashable {
    package enum Result: String, Codable, Sendable {
        case changed, unchanged, refused
    }

    package var result: Result
    package var generation: UInt64
    package var changes: Changes
    package var reasons: [String]
    package var warnings: [String]
    /// The changed keys of `node` that need a restart; `nil` in the answer of an older host.
    package var needRestart: [String]?

    enum CodingKeys: String, CodingKey {
        case result, generation, changes, reasons, warnings
        case needRestart = "need_restart"
    }

    /// The text for a reload without a change.
    package var unchangedText: String { ReloadOutcome.unchangedText(needRestart: needRestart ?? []) }

    /// See ``ReloadChanges``.
    package struct Changes: Codable, Sendable, Hashable {
        package var added: [String]
        package var updated: [String]
        package var repointed: [String]
        package var removed: [String]
        package var untouched: [String]
        package var created: [String]
        package var retired: [String]
        /// `nil` in the answer of an older host, which does not send it.
        package var node: [String]?
    }

    package init(_ outcome: ReloadOutcome) {
        result =
            switch outcome.result {
            case .changed: .changed
            case .unchanged: .unchanged
            case .refused: .refused
            }
        generation = outcome.generation
        let from = outcome.changes
        changes = Changes(
            added: from.added, updated: from.updated, repointed: from.repointed, removed: from.removed,
            untouched: from.untouched, created: from.created, retired: from.retired, node: from.node)
        reasons = outcome.reasons
        warnings = outcome.warnings
        needRestart = outcome.needRestart
    }
}

extension ReloadReport.Changes: CustomStringConvertible {
    /// The same text as of ``ReloadChanges``.
    package var description: String {
        var changes = ReloadChanges()
        changes.added = added
        changes.updated = updated
        changes.repointed = repointed
        changes.removed = removed
        changes.untouched = untouched
        changes.created = created
        changes.retired = retired
        changes.node = node ?? []
        return changes.description
    }
}

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
