import HostConfiguration
import Logging

extension LogLine {
    /// The line as `2026-01-31T12:00:00.000Z info chanserv: message key=value other="two words"`, keys in
    /// alphabetical order.
    package var text: String {
        var line = "\(timestamp) \(level) \(label): \(Self.onOneLine(message))"
        for (key, value) in metadata.sorted(by: { $0.key < $1.key }) {
            line += " \(key)=\(Self.quoted("\(value)"))"
        }
        return line
    }

    /// Returns `text` with its control characters escaped, except tabs.
    ///
    /// Otherwise a message could forge a log line or send commands to the terminal.
    private static func onOneLine(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: { $0.properties.generalCategory == .control && $0 != "\t" }) else {
            return text
        }
        return text.unicodeScalars.reduce(into: "") { result, scalar in
            let isControl = scalar.properties.generalCategory == .control && scalar != "\t"
            result += isControl ? scalar.escaped(asASCII: true) : String(scalar)
        }
    }

    /// Returns `value` on one line, in quotation marks if it is empty or contains a space, tab, `"` or `=`.
    private static func quoted(_ value: String) -> String {
        let line = onOneLine(value)
        guard line.isEmpty || line.contains(where: { $0 == " " || $0 == "\"" || $0 == "=" || $0 == "\t" }) else {
            return line
        }
        return "\"" + line.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\\\"") + "\""
    }
}
