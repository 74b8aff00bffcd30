import ChanservHost

/// A conformance run as a table for people.
enum ConformanceText {
    /// As wide as the longest name.
    private static let width = ConformanceCase.all.map(\.name.count).max() ?? 0

    /// The line of a case, and what was seen, unless it is what the one before it was skipped for.
    static func line(_ result: ConformanceRun.Result, after before: ConformanceRun.Result?) -> String {
        let outcome = result.verdict.outcome == .fail ? "FAIL" : result.verdict.outcome.rawValue
        let name = result.name + String(repeating: " ", count: width - result.name.count)
        let isSaid = result.verdict.outcome == .skip && result.verdict == before?.verdict
        let seen = isSaid ? [] : result.verdict.seen.map { "        \($0)\n" }
        return "\(outcome)  \(name)  \(result.rule)\n" + seen.joined()
    }

    /// The last line.
    static func total(_ results: [ConformanceRun.Result]) -> String {
        let counts = ConformanceCounts(results)
        return "\(counts.passed) passed, \(counts.failed) failed"
            + (counts.skipped > 0 ? ", \(counts.skipped) skipped\n" : "\n")
    }
}

/// How many cases became what; a warning is a pass.
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
