import PluginConformance

/// Renders the results of a conformance run as a text table.
enum ConformanceText {
    /// Width of the name column: the length of the longest name.
    private static let nameWidth = ConformanceCase.all.map(\.name.count).max() ?? 0

    /// Returns the line of a case, followed by its details. The details are omitted if the case was skipped for the
    /// same reason as the case before it.
    static func line(_ result: ConformanceRun.Result, after before: ConformanceRun.Result?) -> String {
        let outcome = result.verdict.outcome == .fail ? "FAIL" : result.verdict.outcome.rawValue
        let name = result.name + String(repeating: " ", count: nameWidth - result.name.count)
        let isRepeated = result.verdict.outcome == .skip && result.verdict == before?.verdict
        let details = isRepeated ? [] : result.verdict.details.map { "        \($0)\n" }
        return "\(outcome)  \(name)  \(result.rule)\n" + details.joined()
    }

    /// Returns the last line, with the number of passed, failed and skipped cases.
    static func total(_ results: [ConformanceRun.Result]) -> String {
        let counts = ConformanceCounts(results)
        return "\(counts.passed) passed, \(counts.failed) failed"
            + (counts.skipped > 0 ? ", \(counts.skipped) skipped\n" : "\n")
    }
}

/// The number of cases per outcome. A case with a warning counts as passed and as warned.
struct ConformanceCounts {
    var passed = 0
    var warned = 0
    var failed = 0
    var skipped = 0

    init(_ results: [ConformanceRun.Result]) {
        for result in results {
            switch result.verdict.outcome {
            case .pass: passed += 1
            case .warn:
                passed += 1
                warned += 1
            case .fail: failed += 1
            case .skip: skipped += 1
            }
        }
    }
}
