/// One rule of `chanserv_plugin.h`, and how to see whether a plugin keeps it. Each is run in a process of its own.
package struct ConformanceCase: Sendable {
    /// A few words joined by dashes.
    package let name: String
    /// The rule, one line.
    package let rule: String
    let run: @Sendable (CaseRun) throws -> Verdict

    init(_ name: String, _ rule: String, _ run: @escaping @Sendable (CaseRun) throws -> Verdict) {
        self.name = name
        self.rule = rule
        self.run = run
    }

    /// All cases, in the order in which they are run.
    package static let all: [ConformanceCase] =
        loading + instances + configurations + requests + order + sinks + lending + versions
        + cancellation + wakes + manners + resources

    /// The first that is run: without it nothing else makes sense.
    static let loadName = "load"
    /// Without it only cases about loading and configurations make sense.
    static let createName = "create"
}

/// A case cannot go on: what is known so far is its verdict.
struct CaseEnd: Error {
    var verdict: Verdict

    init(_ outcome: Verdict.Outcome, _ text: String) {
        verdict = Verdict(outcome, [text])
    }
}

extension Verdict {
    /// A fail where something was found, else a warning where something is doubtful, else a pass.
    static func judge(failures: [String], warnings: [String] = []) -> Verdict {
        if !failures.isEmpty { return Verdict(.fail, failures + warnings) }
        return warnings.isEmpty ? Verdict(.pass) : Verdict(.warn, warnings)
    }
}
