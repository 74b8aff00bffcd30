import FoundationEssentials
import PluginConformance

/// Renders the results of a conformance run as one JSON object on one line:
/// `{"cases":[{"name":"load","outcome":"pass","rule":"…","seen":[]}],"failed":0,"passed":41,"plugin":"…","skipped":1,"warned":0}`.
enum ConformanceJSON {
    static func render(_ plugin: String, _ results: [ConformanceRun.Result]) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return String(decoding: try encoder.encode(Object(plugin, results)), as: UTF8.self) + "\n"
        } catch {
            // Unreachable: strings, numbers and lists of them always encode.
            fatalError("cannot encode the results: \(error)")
        }
    }

    private struct Object: Encodable {
        var plugin: String
        var cases: [Case]
        var passed: Int
        var warned: Int
        var failed: Int
        var skipped: Int

        init(_ plugin: String, _ results: [ConformanceRun.Result]) {
            self.plugin = plugin
            cases = results.map {
                Case(name: $0.name, rule: $0.rule, outcome: $0.verdict.outcome.rawValue, seen: $0.verdict.details)
            }
            let counts = ConformanceCounts(results)
            passed = counts.passed
            warned = counts.warned
            failed = counts.failed
            skipped = counts.skipped
        }
    }

    private struct Case: Encodable {
        var name: String
        var rule: String
        var outcome: String
        var seen: [String]
    }
}
