internal import FoundationEssentials
internal import HostConfiguration

/// A request of a client of the control socket: one JSON object on one line (docs/control.md, "The protocol").
package enum ControlRequest: Sendable, Hashable {
    /// Report what the host is doing: repeatedly in this interval, or once.
    case status(every: Duration?)
    /// List the open requests of one vAddr or of all: repeatedly in this interval, or once.
    case requests(String?, every: Duration?)
    /// List the links to other nodes: repeatedly in this interval, or once.
    case links(every: Duration?)
    /// End an open request. Its client gets the reason.
    case cancel(UInt64, reason: String?)
    /// Reload the configuration and the plugins. A forced reload serves versions again that were rolled back. A dry run
    /// only reports what a reload would do.
    case reload(force: Bool = false, dryRun: Bool = false)
    /// Withdraw a vAddr and let its requests end.
    case drain(String)
    /// Return a vAddr to the mesh.
    case enable(String)
    /// Return a vAddr on probation to the version before.
    case rollback(String)
    /// End the probation of a vAddr: the new version stays.
    case promote(String)
    /// Start a new process that takes over.
    case upgrade
    /// Send the listening sockets to the process that takes over.
    case listeners(version: Int)
    /// Let the requests end and exit, because the client's process serves.
    case handOver

    /// Maximum length of a line in bytes, without the line break.
    package static let longestLine = 16 << 10

    /// Length of the reason of a cancellation, in bytes.
    package static let reasonLengths = 1...1_024

    /// Interval of the answers of a watch, in milliseconds.
    private static let intervals = 100...3_600_000

    /// Parses a line without its line break.
    ///
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

    /// The line with its line break.
    package var line: [UInt8] {
        var fields = Fields()
        switch self {
        case .status(let interval):
            fields.command = "status"
            fields.setWatch(interval)
        case .requests(let vAddr, let interval):
            (fields.command, fields.vAddr) = ("requests", vAddr)
            fields.setWatch(interval)
        case .links(let interval):
            fields.command = "links"
            fields.setWatch(interval)
        case .cancel(let id, let reason): (fields.command, fields.id, fields.reason) = ("cancel", id, reason)
        case .reload(let force, let dryRun):
            fields.command = "reload"
            if force { fields.force = true }
            if dryRun { fields.dryRun = true }
        case .drain(let vAddr): (fields.command, fields.vAddr) = ("drain", vAddr)
        case .enable(let vAddr): (fields.command, fields.vAddr) = ("enable", vAddr)
        case .rollback(let vAddr): (fields.command, fields.vAddr) = ("rollback", vAddr)
        case .promote(let vAddr): (fields.command, fields.vAddr) = ("promote", vAddr)
        case .upgrade: fields.command = "upgrade"
        case .listeners(let version): (fields.command, fields.version) = ("listeners", version)
        case .handOver: fields.command = "hand_over"
        }
        return ControlJSON.line(fields)
    }

    private static func reason(_ error: any Error) -> String {
        switch error {
        case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context):
            "\(context.codingPath.map { "'\($0.stringValue)': " }.joined())\(context.debugDescription)"
        case DecodingError.dataCorrupted: "this is not JSON"
        default: "\(error)"
        }
    }

    /// The JSON object of a line.
    private struct Fields: Codable {
        var command = ""
        var vAddr: String?
        var watch: Bool?
        var interval: Int?
        var id: UInt64?
        var reason: String?
        var force: Bool?
        var dryRun: Bool?
        var version: Int?

        enum CodingKeys: String, CodingKey, CaseIterable {
            case command
            case vAddr = "vaddr"
            case watch
            case interval = "interval_ms"
            case id, reason, force
            case dryRun = "dry_run"
            case version
        }

        enum Command: String, CaseIterable {
            case status, requests, links, cancel, reload, drain, enable, rollback, promote, upgrade, listeners
            case handOver = "hand_over"

            /// The keys that the command accepts besides `command`.
            var keys: Set<CodingKeys> {
                switch self {
                case .status: [.watch, .interval]
                case .requests: [.vAddr, .watch, .interval]
                case .links: [.watch, .interval]
                case .cancel: [.id, .reason]
                case .reload: [.force, .dryRun]
                case .drain, .enable, .rollback, .promote: [.vAddr]
                case .listeners: [.version]
                case .upgrade, .handOver: []
                }
            }
        }

        init() {}

        init(from decoder: any Decoder) throws {
            // A misspelt key is an error, so that it never turns into another request.
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
            force = try container.decodeIfPresent(Bool.self, forKey: .force)
            dryRun = try container.decodeIfPresent(Bool.self, forKey: .dryRun)
            version = try container.decodeIfPresent(Int.self, forKey: .version)
        }

        mutating func setWatch(_ interval: Duration?) {
            guard let interval else { return }
            watch = true
            self.interval = Int(interval / .milliseconds(1))
        }

        /// The keys that are present, in the order of ``CodingKeys``.
        private var presentKeys: [CodingKeys] {
            let keys: [CodingKeys: Bool] = [
                .vAddr: vAddr != nil, .watch: watch != nil, .interval: interval != nil, .id: id != nil,
                .reason: reason != nil, .force: force != nil, .dryRun: dryRun != nil, .version: version != nil,
            ]
            return CodingKeys.allCases.filter { keys[$0] == true }
        }

        func request() throws(ControlError) -> ControlRequest {
            guard let known = Command(rawValue: command) else {
                throw ControlError(
                    .unknownCommand, Self.unknown("command", command, among: Command.allCases.map(\.rawValue)))
            }
            if let key = presentKeys.first(where: { !known.keys.contains($0) }) { throw misplaced(key) }
            switch known {
            case .status: return .status(every: try watchInterval())
            case .requests: return .requests(try optionalVAddr(), every: try watchInterval())
            case .links: return .links(every: try watchInterval())
            case .cancel:
                guard let id else { throw ControlError(.badRequest, "'cancel' needs the key 'id'") }
                return .cancel(id, reason: try validatedReason())
            case .reload: return .reload(force: force ?? false, dryRun: dryRun ?? false)
            case .drain: return .drain(try requiredVAddr())
            case .enable: return .enable(try requiredVAddr())
            case .rollback: return .rollback(try requiredVAddr())
            case .promote: return .promote(try requiredVAddr())
            case .upgrade: return .upgrade
            case .listeners: return .listeners(version: try requiredVersion())
            case .handOver: return .handOver
            }
        }

        /// Returns the error for a key that belongs to another command.
        private func misplaced(_ key: CodingKeys) -> ControlError {
            if key == .vAddr, ["status", "links", "reload", "upgrade"].contains(command) {
                return ControlError(.badRequest, "'\(command)' is for the whole host and takes no 'vaddr'")
            }
            let acceptingCommands = Command.allCases.filter { $0.keys.contains(key) }.map { "'\($0.rawValue)'" }
            return ControlError(
                .badRequest,
                "'\(command)' takes no '\(key.rawValue)': it is for \(Self.list(acceptingCommands))")
        }

        private static func list(_ names: [String]) -> String {
            names.count < 3
                ? names.joined(separator: " and ")
                : "\(names.dropLast().joined(separator: ", ")) and \(names.last ?? "")"
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

        private func validatedReason() throws(ControlError) -> String? {
            guard let reason else { return nil }
            guard ControlRequest.reasonLengths.contains(reason.utf8.count) else {
                throw ControlError(
                    .badRequest, "'reason' has from 1 to \(ControlRequest.reasonLengths.upperBound) bytes")
            }
            return reason
        }

        private func requiredVersion() throws(ControlError) -> Int {
            guard let version else { throw ControlError(.badRequest, "'listeners' needs the key 'version'") }
            return version
        }

        private func optionalVAddr() throws(ControlError) -> String? {
            vAddr == nil ? nil : try requiredVAddr()
        }

        private static func unknown(_ what: String, _ word: String, among known: [String]) -> String {
            let hint = NearestKey.hint(word, among: known)
            let end = hint.isEmpty ? " (known: \(known.joined(separator: ", ")))" : hint
            return "unknown \(what) \(quoted(word))\(end)"
        }

        private func requiredVAddr() throws(ControlError) -> String {
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

/// The reason why a request failed, as sent to the client.
package struct ControlError: Error, Sendable, Hashable, Codable {
    package enum Code: String, Sendable, Codable {
        /// The line is not a request, or has wrong values.
        case badRequest = "bad_request"
        /// The command does not exist.
        case unknownCommand = "unknown_command"
        /// The route does not exist.
        case unknownVAddr = "unknown_vaddr"
        /// No request with this number is open.
        case unknownRequest = "unknown_request"
        /// The line is too long.
        case tooLong = "too_long"
        /// No request arrived in time.
        case timeout
        /// Too many connections.
        case busy
        /// The client's user may not use the socket.
        case forbidden
        /// The host is stopping.
        case stopping
        /// The host cannot be replaced now; the message says why.
        case refused
        /// A reload is running.
        case reloading
        /// The route is not on probation.
        case noProbation = "no_probation"
    }

    package var code: Code
    /// The text for the operator.
    package var message: String
    /// With `unknown_vaddr`: the nearest vAddr, if there is one.
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
        case .reloading: self.init(.reloading, error.description)
        case .noProbation: self.init(.noProbation, error.description)
        }
    }
}

/// JSON on the control socket.
package enum ControlJSON {
    /// Returns one object on one line with its line break.
    package static func line(_ value: some Encodable) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return Array(try encoder.encode(value)) + [UInt8(ascii: "\n")]
        } catch {
            // Values of strings, booleans, integers and lists of them can always be encoded.
            fatalError("a control message could not be encoded: \(error)")
        }
    }
}
