import FoundationEssentials
import Logging

extension LogLine {
    /// The line as `{"label":…,"level":…,"message":…,"metadata":{…},"time":…}`. Without metadata the key is missing.
    /// Numbers and Booleans that the logger passed as `.stringConvertible` are JSON numbers and Booleans.
    package var json: String {
        let object = Object(
            time: timestamp, level: level.rawValue, label: label, message: message,
            metadata: metadata.isEmpty ? nil : metadata.mapValues(Value.init))
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return String(decoding: try encoder.encode(object), as: UTF8.self)
        } catch {
            // Unreachable: strings and collections of strings always encode.
            fatalError("cannot encode a log line: \(error)")
        }
    }

    private struct Object: Encodable {
        var time: String
        var level: String
        var label: String
        var message: String
        var metadata: [String: Value]?
    }

    private struct Value: Encodable {
        let value: Logger.MetadataValue

        init(_ value: Logger.MetadataValue) { self.value = value }

        func encode(to encoder: any Encoder) throws {
            switch value {
            case .string(let string): try string.encode(to: encoder)
            case .stringConvertible(let value as Bool): try value.encode(to: encoder)
            case .stringConvertible(let value as any BinaryInteger & Encodable): try value.encode(to: encoder)
            // JSON has no infinity and no NaN.
            case .stringConvertible(let value as Double) where value.isFinite: try value.encode(to: encoder)
            case .stringConvertible(let value): try value.description.encode(to: encoder)
            case .array(let values): try values.map(Value.init).encode(to: encoder)
            case .dictionary(let values): try values.mapValues(Value.init).encode(to: encoder)
            }
        }
    }
}
