import Foundation
import HostConfiguration
import Testing

/// The schema of the options, compared with what users read. `CHANSERV_UPDATE_DOCUMENTS=1` writes the tables and the
/// comments anew.
@Suite struct ConfigurationReferenceTests {
    private let folder = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    private let updates = ProcessInfo.processInfo.environment["CHANSERV_UPDATE_DOCUMENTS"] == "1"

    private func text(_ name: String) throws -> String {
        try String(contentsOf: folder.appending(path: name), encoding: .utf8)
    }

    @Test func `the tables of the reference are those of the schema`() throws {
        let name = "docs/configuration.md"
        var text = try text(name)
        for (table, rows) in ConfigurationReference.tables {
            let start = try #require(text.range(of: "<!-- options of \(table) -->\n\n"), "no table \(table)")
            let end = try #require(text.range(of: "\n\n", range: start.upperBound..<text.endIndex))
            let expected = ConfigurationReference.markdown(rows)
            let found = text[start.upperBound..<end.lowerBound] + "\n"
            if updates {
                text.replaceSubrange(start.upperBound..<end.lowerBound, with: expected.dropLast())
            } else {
                #expect(found == expected)
            }
        }
        if updates { try Data(text.utf8).write(to: folder.appending(path: name)) }
    }

    @Test func `the examples of TLS and access in the reference are valid and cause no warning`() throws {
        let blocks = try text("docs/configuration.md").components(separatedBy: "```")
            .filter { $0.hasPrefix("yaml\n") && ($0.contains("tls:") || $0.contains("access:")) }
        #expect(blocks.count == 2)
        for block in blocks {
            let configuration = try HostConfiguration.parse(
                String(block.dropFirst(5)), file: "docs/configuration.md", folder: "/etc")
            #expect(configuration.warnings.filter { !$0.message.hasPrefix("there are no routes") } == [])
        }
    }

    @Test func `chanserv yaml has a line for each option, with its default and its comment`() throws {
        let name = "chanserv.yaml"
        var lines = try text(name).split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        // An option of a worker is shown at the first plugin, those of a route under `defaults`.
        let sections = [
            "node": "node:", "log": "log:", "defaults": "defaults:", "plugins": "plugins:", "workers": "plugins:",
            "drop_in": "drop_in:",
        ]
        for (table, rows) in ConfigurationReference.tables {
            guard let section = sections[table] else { continue }
            let start = try #require(lines.firstIndex(of: section))
            // The long list of variables leaves no room for a comment.
            for row in rows where row.keys != ["environment"] || table == "node" {
                let key = try #require(row.keys.last)
                // Of several options with one name, the line under the right parent.
                let from =
                    row.keys.count == 1
                    ? start : try #require(lines[start...].firstIndex { Self.content($0).hasPrefix("\(row.keys[0]):") })
                let index = try #require(
                    lines[from...].firstIndex { Self.content($0).hasPrefix("\(key):") }, "\(row.keys) is not shown")
                let (setting, comment) = Self.parts(lines[index])
                if updates {
                    let padding = String(repeating: " ", count: max(2, 34 - setting.count))
                    lines[index] = setting + padding + "# " + row.summary
                } else {
                    #expect(comment == row.summary, "\(row.keys)")
                }
                let isCommentedOut = setting.trimmingCharacters(in: .whitespaces).hasPrefix("#")
                if isCommentedOut, row.value != "none", !row.isRequired {
                    #expect(setting.hasSuffix("\(key): \(row.value)"), "\(row.keys)")
                }
            }
        }
        if updates { try Data(lines.joined(separator: "\n").utf8).write(to: folder.appending(path: name)) }
    }

    /// Returns a line without indentation and without the `#` of an option that is commented out.
    private static func content(_ line: String) -> String {
        String(line.drop { $0 == " " || $0 == "#" })
    }

    /// Returns the setting of a line, with its indentation, and its comment.
    private static func parts(_ line: String) -> (setting: String, comment: String) {
        guard
            let end = line.range(
                of: "  # ", options: .backwards, range: line.index(line.startIndex, offsetBy: 6)..<line.endIndex)
        else { return (line, "") }
        let setting = line[..<end.lowerBound].reversed().drop { $0 == " " }.reversed()
        return (String(setting), String(line[end.upperBound...]))
    }
}
