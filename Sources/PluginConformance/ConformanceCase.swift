/// One rule of `chanserv_plugin.h` and the test for it. Each case runs in a process of its own.
package struct ConformanceCase: Sendable {
    /// A few words joined by dashes.
    package let name: String
    /// The rule on one line.
    package let rule: String
    let run: @Sendable (CaseRun) throws -> Verdict

    init(_ name: String, _ rule: String, _ run: @escaping @Sendable (CaseRun) throws -> Verdict) {
        self.name = name
        self.rule = rule
        self.run = run
    }

    /// All cases in the order in which they run.
    package static let all: [ConformanceCase] =
        loading + instances + configurations + requests + order + sinks + lending + versions
        + cancellation + wakes + manners + resources

    /// The first case. If it fails, the others are skipped.
    static let loadName = "load"
    /// If this case fails, the cases after it are skipped.
    static let createName = "create"
}

/// Ends a case early with a verdict.
struct CaseEnd: Error {
    var verdict: Verdict

    init(_ outcome: Verdict.Outcome, _ text: String) {
        verdict = Verdict(outcome, [text])
    }
}

extension Verdict {
    /// Returns a failure if there are failures, otherwise a warning if there are warnings, otherwise a pass.
    static func judge(failures: [String], warnings: [String] = []) -> Verdict {
        if !failures.isEmpty { return Verdict(.fail, failures + warnings) }
        return warnings.isEmpty ? Verdict(.pass) : Verdict(.warn, warnings)
    }
}
