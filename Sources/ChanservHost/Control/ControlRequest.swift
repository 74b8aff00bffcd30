internal import FoundationEssentials

/// What a client of the control socket asks for: one line with one JSON object (docs/control.md).
package enum ControlRequest: Sendable, Hashable {
    /// What the host is doing; again and again in this interval, or once.
    case status(every: Duration?)
    /// Read the configuration and the plugins again.
    case reload
    /// Withdraw a vAddr and let its requests end.
    case drain(String)
    /// Bring a vAddr back.
    case enable(String)

    /// A line may be this long, in bytes without its end.
    package static let longestLine = 16 << 10

    /// How often a status may come, in milliseconds.
    private static let intervals = 100...3_600_000

    /// - Throws: ``ControlError`` with code `badRequest` or `unknownCommand`.
    package init(line: some Collection<UInt8>) throws(ControlError) {
        let fields: Fields
        do {
            fields = try JSONDecoder().decode(Fields.self, from: Data(line))
        } catch let error as ControlError {
            throw error
        } catch {
            throw ControlError(
                .badRequest, "expected a JSON object such as {\"command\":\"status\"}: \(ControlRequest.reason(error))")
        }
        self = try fields.request()
    }

    /// The line, with its end.
    package var line: [UInt8] {
        var fields = Fields()
        switch self {
        case .status(let interval):
            fields.command = "status"
            if let interval {
                fields.watch = true
                fields.interval = Int(interval / .milliseconds(1))
            }
        case .reload: fields.command = "reload"
        case .drain(let vAddr): (fields.command, fields.vAddr) = ("drain", vAddr)
        case .enable(let vAddr): (fields.command, fields.vAddr) = ("enable", vAddr)
        }
        return ControlJSON.line(fields)
    }

    private static func reason(_ error: any Error) -> String {
        switch error {
        case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context):
            "\(context.codingPath.map { "'\($0.stringValue)': " }.joined())\(context.debugDescription)"
        case DecodingError.dataCorrupted: "this is no JSON"
        default: "\(error)"
        }
    }

    /// The object as it stands in the line.
    private struct Fields: Codable {
        var command = ""
        var vAddr: String?
        var watch: Bool?
        var interval: Int?

        enum CodingKeys: String, CodingKey, CaseIterable {
            case command
            case vAddr = "vaddr"
            case watch
            case interval = "interval_ms"
        }

        init() {}

        init(from decoder: any Decoder) throws {
            // A misspelt key must not turn into a request for something else.
            let all = try decoder.container(keyedBy: AnyKey.self).allKeys.map(\.stringValue).sorted()
            if let unknown = all.first(where: { CodingKeys(rawValue: $0) == nil }) {
                throw ControlError(
                    .badRequest, Self.unknown("key", unknown, among: CodingKeys.allCases.map(\.rawValue)))
            }
            let container = try decoder.container(keyedBy: CodingKeys.self)
            guard let command = try container.decodeIfPresent(String.self, forKey: .command) else {
                throw ControlError(.badRequest, "a request needs the key 'command'")
            }
            self.command = command
            vAddr = try container.decodeIfPresent(String.self, forKey: .vAddr)
            watch = try container.decodeIfPresent(Bool.self, forKey: .watch)
            interval = try container.decodeIfPresent(Int.self, forKey: .interval)
        }

        func request() throws(ControlError) -> ControlRequest {
            let request: ControlRequest
            switch command {
            case "status":
                guard watch == true || interval == nil else {
                    throw ControlError(.badRequest, "'interval_ms' needs 'watch'")
                }
                let interval = interval ?? 1_000
                guard intervals.contains(interval) else {
                    throw ControlError(
                        .badRequest, "'interval_ms' is from \(intervals.lowerBound) to \(intervals.upperBound)")
                }
                request = .status(every: watch == true ? .milliseconds(interval) : nil)
            case "reload": request = .reload
            case "drain": request = .drain(try neededVAddr())
            case "enable": request = .enable(try neededVAddr())
            default:
                throw ControlError(
                    .unknownCommand,
                    Self.unknown("command", command, among: ["status", "reload", "drain", "enable"]))
            }
            if vAddr != nil, command == "status" || command == "reload" {
                throw ControlError(.badRequest, "'\(command)' is for the whole host and takes no 'vaddr'")
            }
            if watch != nil || interval != nil, command != "status" {
                throw ControlError(.badRequest, "'watch' and 'interval_ms' are for 'status'")
            }
            return request
        }

        private static func unknown(_ what: String, _ word: String, among known: [String]) -> String {
            let hint = NearestKey.hint(word, among: known)
            let end = hint.isEmpty ? " (known: \(known.joined(separator: ", ")))" : hint
            return "unknown \(what) \(quoted(word))\(end)"
        }

        private func neededVAddr() throws(ControlError) -> String {
            guard let vAddr, !vAddr.isEmpty else {
                throw ControlError(.badRequest, "'\(command)' needs the key 'vaddr'")
            }
            return vAddr
        }
    }

    private struct AnyKey: CodingKey {
        var stringValue: String
        var intValue: Int? { nil }

        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }
}

/// Why a request was not done, as it is told to the client.
package struct ControlError: Error, Sendable, Hashable, Codable {
    package enum Code: String, Sendable, Codable {
        /// The line is no request, or one with wrong values.
        case badRequest = "bad_request"
        /// There is no such command.
        case unknownCommand = "unknown_command"
        /// There is no such route.
        case unknownVAddr = "unknown_vaddr"
        /// The line is longer than may be.
        case tooLong = "too_long"
        /// The request did not come in time.
        case timeout
        /// Too many connections.
        case busy
        /// The socket is not this user's.
        case forbidden
        /// The host is stopping.
        case stopping
    }

    package var code: Code
    /// For a person.
    package var message: String
    /// With `unknown_vaddr`: the one that was probably meant.
    package var nearest: String?

    package init(_ code: Code, _ message: String, nearest: String? = nil) {
        self.code = code
        self.message = message
        self.nearest = nearest
    }

    init(_ error: RouteError) {
        switch error.reason {
        case .unknown(let nearest): self.init(.unknownVAddr, error.description, nearest: nearest)
        case .stopping: self.init(.stopping, error.description)
        }
    }
}

/// JSON as it goes over the control socket.
package enum ControlJSON {
    /// One object on one line, with its end.
    package static func line(_ value: some Encodable) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return Array(try encoder.encode(value)) + [UInt8(ascii: "\n")]
        } catch {
            // Strings, booleans, integers and lists of them always encode.
            fatalError("a control message could not be encoded: \(error)")
        }
    }
}
