/// What became of a case.
package struct Verdict: Sendable, Hashable {
    package enum Outcome: String, Sendable, Hashable, CaseIterable {
        /// The rule holds.
        case pass
        /// It holds, or cannot be judged, and something should be looked at.
        case warn
        case fail
        /// The case does not apply, or could not be run.
        case skip
    }

    package var outcome: Outcome
    /// What was seen, a sentence each.
    package var seen: [String]

    package init(_ outcome: Outcome, _ seen: [String] = []) {
        self.outcome = outcome
        self.seen = seen.map { $0.replacing("\n", with: " ") }
    }

    /// One line for the outcome, one for each thing that was seen.
    var text: String { ([outcome.rawValue] + seen).joined(separator: "\n") }

    init?(text: String) {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        guard let outcome = lines.first.flatMap(Outcome.init(rawValue:)) else { return nil }
        self.outcome = outcome
        seen = Array(lines.dropFirst())
    }
}
