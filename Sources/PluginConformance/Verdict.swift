/// The result of a case.
package struct Verdict: Sendable, Hashable {
    package enum Outcome: String, Sendable, Hashable, CaseIterable {
        /// The plugin keeps the rule.
        case pass
        /// The plugin keeps the rule, or this cannot be decided, and the author should check something.
        case warn
        case fail
        /// The case does not apply, or could not run.
        case skip
    }

    package var outcome: Outcome
    /// The observations, a sentence each.
    package var details: [String]

    package init(_ outcome: Outcome, _ details: [String] = []) {
        self.outcome = outcome
        self.details = details.map { $0.replacing("\n", with: " ") }
    }

    /// The outcome on the first line and one line for each observation.
    var text: String { ([outcome.rawValue] + details).joined(separator: "\n") }

    init?(text: String) {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        guard let outcome = lines.first.flatMap(Outcome.init(rawValue:)) else { return nil }
        self.outcome = outcome
        details = Array(lines.dropFirst())
    }
}
