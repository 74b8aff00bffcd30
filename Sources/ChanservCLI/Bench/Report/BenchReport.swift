import FoundationEssentials

/// The figures of all runs of a workload, which can be rendered as text and as JSON.
package struct BenchReport: Sendable {
    var workload: String
    var summary: String
    var parameters: [String: BenchParameter]
    package var isVerified: Bool
    /// Whether the benchmark started the host.
    var ownHost: Bool
    /// The figures of each run. All runs have the same figures in the same order.
    package var runs: [[Figure]]

    package init(
        workload: String, summary: String, parameters: [String: BenchParameter], isVerified: Bool, ownHost: Bool,
        runs: [[Figure]]
    ) {
        self.workload = workload
        self.summary = summary
        self.parameters = parameters
        self.isVerified = isVerified
        self.ownHost = ownHost
        self.runs = runs
    }

    /// The values of one figure in all runs.
    struct Row: Encodable {
        var unit: String
        var min: Double
        var median: Double
        var max: Double
        /// The values in the order of the runs.
        var values: [Double]

        init(unit: String, values: [Double]) {
            let sorted = values.sorted()
            self.unit = unit
            self.values = values
            min = sorted[0]
            max = sorted[sorted.count - 1]
            let middle = sorted.count / 2
            median = sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
        }
    }

    private var rows: [(name: String, row: Row)] {
        runs[0].enumerated().map { index, figure in
            (figure.name, Row(unit: figure.unit, values: runs.map { $0[index].value }))
        }
    }

    /// A line with the summary, followed by a table.
    package var text: String {
        let several = runs.count > 1
        var lines = [several ? ["FIGURE", "MEDIAN", "MIN", "MAX", "UNIT"] : ["FIGURE", "VALUE", "UNIT"]]
        for (name, row) in rows {
            let values = several ? [row.median, row.min, row.max] : [row.median]
            lines.append([String(name.map { $0 == "_" ? " " : $0 })] + values.map { Figure.text($0) } + [row.unit])
        }
        let widths = lines[0].indices.map { column in lines.map { $0[column].count }.max()! }
        let table = lines.map { line in
            line.enumerated().map { column, cell in
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                if column == 0 { return cell + padding }
                return column == line.count - 1 ? cell : padding + cell
            }.joined(separator: "  ")
        }
        let checks = isVerified ? ", content of every frame verified" : ""
        let times = several ? ", \(runs.count) runs" : ""
        return "\(workload): \(summary)\(times)\(checks)\n" + table.map { $0 + "\n" }.joined()
    }

    /// The report as one JSON object on one line.
    package var json: String {
        let object = Object(
            workload: workload, parameters: parameters, verified: isVerified, host: ownHost ? "own" : "joined",
            runs: runs.count, figures: Dictionary(uniqueKeysWithValues: rows.map { ($0.name, $0.row) }))
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return String(decoding: try encoder.encode(object), as: UTF8.self) + "\n"
        } catch {
            // Unreachable: strings and finite numbers always encode.
            fatalError("cannot encode a report: \(error)")
        }
    }

    private struct Object: Encodable {
        var workload: String
        var parameters: [String: BenchParameter]
        var verified: Bool
        var host: String
        var runs: Int
        var figures: [String: Row]
    }
}
