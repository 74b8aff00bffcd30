/// Decodes a type of the plugin. The tree provides the keys. The host's getters read the values, so that the host
/// parses durations, sizes and paths, and errors contain the place in the file.
struct ConfigurationDecoder: Decoder {
    let getters: ConfigurationGetters
    let node: ConfigurationTree
    let codingPath: [any CodingKey]
    /// The values of absent keys.
    let defaults: ConfigurationDefaults?
    let keys = AskedKeys()
    let userInfo: [CodingUserInfoKey: Any] = [:]

    func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
        guard case .mapping = node else { throw mismatch("a mapping") }
        keys.isMapping = true
        return KeyedDecodingContainer(KeyedContainer<Key>(decoder: self))
    }

    func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
        guard case .list(let elements) = node else { throw mismatch("a list") }
        return ListContainer(decoder: self, elements: elements)
    }

    func singleValueContainer() throws -> any SingleValueDecodingContainer {
        ValueContainer(decoder: self)
    }

    /// Returns a decoder for a nested value.
    func child(_ key: any CodingKey, _ node: ConfigurationTree, _ defaults: ConfigurationDefaults? = nil) -> Self {
        ConfigurationDecoder(getters: getters, node: node, codingPath: codingPath + [key], defaults: defaults)
    }

    // MARK: Values

    /// Decodes a whole value and throws for keys that the type does not have.
    func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
        if let value = try leaf(type) { return value }
        do {
            let value = try Value(from: self)
            try refuseUnknownKeys()
            return value
        } catch DecodingError.dataCorrupted(let context) where context.codingPath.count == codingPath.count {
            throw failure(choices(of: type) ?? context.debugDescription)
        }
    }

    /// Reads a value with a getter; returns `nil` for a composed type.
    private func leaf<Value>(_ type: Value.Type) throws -> Value? {
        switch type {
        case is String.Type: try read(ConfigurationGetters.string, else: node.asText, "text") as? Value
        case is Bool.Type: try read(ConfigurationGetters.boolean, else: node.asBoolean, "true or false") as? Value
        case is Double.Type: try number() as? Value
        case is Float.Type: try Float(number()) as? Value
        case is Duration.Type: try read(ConfigurationGetters.duration, else: nil, "a duration") as? Value
        case is ByteSize.Type:
            try ByteSize(exactly: read(ConfigurationGetters.size, else: nil, "a size")).orThrow {
                failure("the size is too large for this plugin")
            } as? Value
        case is ConfiguredPath.Type:
            ConfiguredPath(try read(ConfigurationGetters.path, else: nil, "a path")) as? Value
        case let type as any FixedWidthInteger.Type: try integer(type) as? Value
        default: nil
        }
    }

    private func number() throws -> Double {
        try read(ConfigurationGetters.number, else: node.asNumber.flatMap(Double.init), "a number")
    }

    private func integer<Integer: FixedWidthInteger>(_ type: Integer.Type) throws -> Integer {
        let value = try read(ConfigurationGetters.integer, else: node.asNumber.flatMap { Int64($0) }, "an integer")
        guard let integer = Integer(exactly: value) else {
            throw failure("\(value) is not between \(Integer.min) and \(Integer.max)")
        }
        return integer
    }

    /// Reads a value with the host's getter. Uses `value` if the key cannot be written as a getter's path.
    private func read<Value>(
        _ getter: (ConfigurationGetters) -> (String) throws(PluginError) -> Value?, else value: Value?,
        _ expected: String
    ) throws -> Value {
        guard let value = try ask(getter) ?? (codingPath.getterPath == nil ? value : nil) else {
            throw mismatch(expected)
        }
        return value
    }

    private func ask<Value>(
        _ getter: (ConfigurationGetters) -> (String) throws(PluginError) -> Value?
    ) throws(PluginError) -> Value? {
        guard let path = codingPath.getterPath else { return nil }
        do throws(PluginError) {
            return try getter(getters)(path)
        } catch {
            // The host's message has the place but not the key path.
            throw PluginError(error.code, error.message + codingPath.suffix)
        }
    }

    // MARK: Errors

    func mismatch(_ expected: String) -> PluginError { failure("expected \(expected), found \(node.kind)") }

    /// Creates an error with the place of this value.
    func failure(_ message: String) -> PluginError {
        let place = codingPath.getterPath.flatMap { getters.place($0) }
        return PluginError(.badRequest, (place.map { "\($0): " } ?? "") + message + codingPath.suffix)
    }

    private func refuseUnknownKeys() throws(PluginError) {
        guard keys.isMapping, !keys.isOpen, case .mapping(let entries) = node else { return }
        let unknown = entries.filter { !keys.names.contains($0.key) }
        guard let first = unknown.first?.key else { return }
        // The host knows the place of a top-level key. For nested keys it knows the place of the value.
        if codingPath.isEmpty { try getters.only(keys.names) }
        let hint = nearest(first, among: keys.names).map { "; did you mean '\($0)'?" } ?? ""
        throw child(ConfigurationKey(first), unknown[0].value).failure("unknown key '\(first)'\(hint)")
    }

    /// Converts an error that a `Decodable` type threw and adds its place.
    func describe(_ error: DecodingError) -> PluginError {
        switch error {
        case .keyNotFound(let key, let context):
            return at(context.codingPath).failure("'\(key.stringValue)' is missing")
        case .dataCorrupted(let context), .typeMismatch(_, let context), .valueNotFound(_, let context):
            return at(context.codingPath).failure(context.debugDescription)
        @unknown default:
            return failure("\(error)")
        }
    }

    private func at(_ path: [any CodingKey]) -> Self {
        ConfigurationDecoder(getters: getters, node: .null, codingPath: path, defaults: nil)
    }

    /// Returns a message that lists the valid texts of an enumeration; `nil` for another type.
    private func choices(of type: Any.Type) -> String? {
        guard let type = type as? any (CaseIterable & RawRepresentable).Type else { return nil }
        func names<Choice: CaseIterable & RawRepresentable>(_ type: Choice.Type) -> String {
            Choice.allCases.map { "\($0.rawValue)" }.joined(separator: ", ")
        }
        return "expected one of \(names(type)), found \(node.kind)"
    }
}

/// The keys of a mapping that the type requested.
final class AskedKeys {
    /// The names, in the order of their first request.
    private(set) var names: [String] = []
    /// Whether the value was read as a mapping with keys.
    var isMapping = false
    /// Whether the type takes any key.
    var isOpen = false

    func insert(_ name: String) {
        if !names.contains(name) { names.append(name) }
    }
}

/// A key, or the index of a list element.
struct ConfigurationKey: CodingKey {
    let stringValue: String
    let intValue: Int?

    init(_ name: String) { (stringValue, intValue) = (name, nil) }
    init(_ index: Int) { (stringValue, intValue) = ("\(index)", index) }
    init?(stringValue: String) { self.init(stringValue) }
    init?(intValue: Int) { self.init(intValue) }
}

extension [any CodingKey] {
    /// The path for the host's getters; `nil` if a key is empty or contains a dot.
    var getterPath: String? {
        contains { $0.stringValue.isEmpty || $0.stringValue.contains(".") } ? nil : path
    }

    fileprivate var path: String { map(\.stringValue).joined(separator: ".") }

    /// The key path as a suffix of a message.
    fileprivate var suffix: String { isEmpty ? "" : " (\(path))" }
}

extension ConfigurationTree {
    fileprivate var asText: String? { if case .text(let text) = self { text } else { nil } }
    fileprivate var asBoolean: Bool? { if case .boolean(let value) = self { value } else { nil } }
    fileprivate var asNumber: String? { if case .number(let digits) = self { digits } else { nil } }
}

extension Optional {
    fileprivate func orThrow(_ error: () -> PluginError) throws(PluginError) -> Wrapped {
        guard let self else { throw error() }
        return self
    }
}
