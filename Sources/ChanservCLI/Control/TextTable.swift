/// Renders text tables whose columns are as wide as their longest cell.
enum TextTable {
    /// Returns one line per row, each with a line feed.
    ///
    /// - Parameter rows: at least one row; all rows have the same number of cells.
    static func render(_ rows: [[String]]) -> String {
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            let cells = zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
            var line = cells.joined(separator: "  ")
            while line.last == " " { line.removeLast() }
            return line + "\n"
        }.joined()
    }
}
