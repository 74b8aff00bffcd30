internal import FoundationEssentials

/// What a client of the control socket asks for: one line with one JSON object (docs/control.md).
package enum ControlRequest: Sendable, Hashable {
    /// What the host is doing; again and again in this interval, or once.
    case status(every: Duration?)
    /// Which requests are open, of one vAddr or of all; again and again in this interval, or once.
    case requests(String?, every: Duration?)
    /// End an open request; its client is told the reason.
    case cancel(UInt64, reason: String?)
    /// Read the configuration and the plugins again.
    case reload
    /// Withdraw a vAddr and let its requests end.
    case drain(String)
    /// Bring a vAddr back.
    case enable(String)

    /// A line may be this long, in bytes without its end.
    package static let longestLine = 16 << 10

    /// How long the reason of a cancellation may be, in bytes.
    package static let reasonLengths = 1...1_024

    /// How often a watch may send an answer, in milliseconds.
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
            fields.setWatch(interval)
        case .requests(let vAddr, let interval):
            (fields.command, fields.vAddr) = ("requests", vAddr)
            fields.setWatch(interval)
        case .cancel(let id, let reason): (fields.command, fields.id, fields.reason) = ("cancel", id, reason)
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
        var id: UInt64?
        var reason: String?

        enum CodingKeys: String, CodingKey, CaseIterable {
            case command
            case vAddr = "vaddr"
            case watch
            case interval = "interval_ms"
            case id, reason
        }

        enum Command: String, CaseIterable {
            case status, requests, cancel, reload, drain, enable

            /// The keys that it may have besides its name.
            var keys: Set<CodingKeys> {
                switch self {
                case .status: [.watch, .interval]
                case .requests: [.vAddr, .watch, .interval]
                case .cancel: [.id, .reason]
                case .reload: []
                case .drain, .enable: [.vAddr]
                }
            }
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
            id = try container.decodeIfPresent(UInt64.self, forKey: .id)
            reason = try container.decodeIfPresent(String.self, forKey: .reason)
        }

        mutating func setWatch(_ interval: Duration?) {
            guard let interval else { return }
            watch = true
            self.interval = Int(interval / .milliseconds(1))
        }

        /// The keys that have a value, in the order of ``CodingKeys``.
        private var given: [CodingKeys] {
            let keys: [CodingKeys: Bool] = [
                .vAddr: vAddr != nil, .watch: watch != nil, .interval: interval != nil, .id: id != nil,
                .reason: reason != nil,
            ]
            return CodingKeys.allCases.filter { keys[$0] == true }
        }

        func request() throws(ControlError) -> ControlRequest {
            guard let known = Command(rawValue: command) else {
                throw ControlError(
                    .unknownCommand, Self.unknown("command", command, among: Command.allCases.map(\.rawValue)))
            }
            if let key = given.first(where: { !known.keys.contains($0) }) { throw misplaced(key) }
            switch known {
            case .status: return .status(every: try watchInterval())
            case .requests: return .requests(try givenVAddr(), every: try watchInterval())
            case .cancel:
                guard let id else { throw ControlError(.badRequest, "'cancel' needs the key 'id'") }
                return .cancel(id, reason: try givenReason())
            case .reload: return .reload
            case .drain: return .drain(try neededVAddr())
            case .enable: return .enable(try neededVAddr())
            }
        }

        /// A key of another command.
        private func misplaced(_ key: CodingKeys) -> ControlError {
            if key == .vAddr, command == "status" || command == "reload" {
                return ControlError(.badRequest, "'\(command)' is for the whole host and takes no 'vaddr'")
            }
            let owners = Command.allCases.filter { $0.keys.contains(key) }.map { "'\($0.rawValue)'" }
            return ControlError(
                .badRequest, "'\(command)' takes no '\(key.rawValue)': it is for \(owners.joined(separator: " and "))")
        }

        private func watchInterval() throws(ControlError) -> Duration? {
            guard watch == true || interval == nil else {
                throw ControlError(.badRequest, "'interval_ms' needs 'watch'")
            }
            let interval = interval ?? 1_000
            guard intervals.contains(interval) else {
                throw ControlError(
                    .badRequest, "'interval_ms' is from \(intervals.lowerBound) to \(intervals.upperBound)")
            }
            return watch == true ? .milliseconds(interval) : nil
        }

        private func givenReason() throws(ControlError) -> String? {
            guard let reason else { return nil }
            guard ControlRequest.reasonLengths.contains(reason.utf8.count) else {
                throw ControlError(
                    .badRequest, "'reason' has from 1 to \(ControlRequest.reasonLengths.upperBound) bytes")
            }
            return reason
        }

        private func givenVAddr() throws(ControlError) -> String? {
            vAddr == nil ? nil : try neededVAddr()
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
        /// No request with this number is open.
        case unknownRequest = "unknown_request"
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
