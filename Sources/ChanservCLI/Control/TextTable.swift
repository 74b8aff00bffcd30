/// A table for people, with columns as wide as they need to be.
enum TextTable {
    /// Returns a line for each row, the last one with its end.
    ///
    /// - Parameter rows: at least one, all with the same number of cells.
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
