package import Chanserv
package import FoundationEssentials
internal import HostConfiguration

/// The format of an access log.
public enum AccessLogFormat: Sendable, Hashable {
    /// `key=value` pairs.
    case text
    /// One JSON object per line.
    case json
}

/// One line of an access log: the end of a request.
package struct AccessLine: Sendable {
    package var time: Date
    package var request: RequestSummary
    /// `node.name` of the host; `nil` if it has none.
    package var node: String?

    package init(time: Date, request: RequestSummary, node: String?) {
        self.time = time
        self.request = request
        self.node = node
    }

    /// Maximum length of the reason in characters. A longer one is cut.
    private static let longestReason = 1_000

    /// A value of a line.
    package enum Value: Sendable {
        case text(String)
        case integer(Int)
        /// Milliseconds, rounded to microseconds.
        case milliseconds(Double)
    }

    /// The values of the line in the order of the text format. Values without content are missing.
    package var values: [(key: String, value: Value)] {
        var values: [(String, Value)] = [("client", .text(request.client))]
        if let address = request.clientAddress { values.append(("address", .text(address))) }
        if !request.identity.isEmpty { values.append(("identity", .text(request.identity))) }
        if let id = request.id { values.append(("id", .integer(Int(clamping: id)))) }
        values += [
            ("route", .text(request.vAddr)), ("result", .text(request.result.rawValue)),
            ("sources", .integer(request.sources)), ("frames", .integer(request.frames)),
            ("bytes", .integer(request.bytes)),
        ]
        if let first = request.firstFrame {
            values.append(("first_frame_ms", .milliseconds(first.roundedMilliseconds)))
        }
        values.append(("duration_ms", .milliseconds(request.duration.roundedMilliseconds)))
        if let node { values.append(("node", .text(node))) }
        if let reason = request.reason { values.append(("reason", .text(String(reason.prefix(Self.longestReason))))) }
        return values
    }

    /// The line without its line feed.
    package func line(in format: AccessLogFormat) -> String {
        let timestamp = time.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
        switch format {
        case .text:
            return values.reduce(timestamp) { "\($0) \($1.key)=\($1.value.text)" }
        case .json:
            let members = [("time", Value.text(timestamp))] + values
            return "{\(members.map { "\"\($0.0)\":\($0.1.json)" }.joined(separator: ","))}"
        }
    }
}

extension AccessLine.Value {
    /// The value on one line, in quotation marks if it has other characters than those of names and addresses.
    fileprivate var text: String {
        switch self {
        case .integer(let number): "\(number)"
        case .milliseconds(let number): "\(number)"
        case .text(let text): Self.isPlain(text) ? text : json
        }
    }

    fileprivate var json: String {
        switch self {
        case .integer(let number): "\(number)"
        case .milliseconds(let number): "\(number)"
        case .text(let text): Self.quoted(text)
        }
    }

    private static func isPlain(_ text: String) -> Bool {
        !text.isEmpty && !text.contains { $0 == "\"" || $0 == "=" } && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }
    }

    /// Returns a JSON string. Control characters, which could also forge a line or command a terminal, are escaped.
    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case _ where scalar.properties.generalCategory == .control:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}

extension Duration {
    fileprivate var roundedMilliseconds: Double { (self / .microseconds(1)).rounded() / 1_000 }
}
