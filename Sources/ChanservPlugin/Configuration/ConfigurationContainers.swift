/// Decodes a mapping.
struct KeyedContainer<Key: CodingKey>: KeyedDecodingContainerProtocol {
    let decoder: ConfigurationDecoder

    var codingPath: [any CodingKey] { decoder.codingPath }

    var allKeys: [Key] {
        decoder.keys.isOpen = true
        guard case .mapping(let entries) = decoder.node else { return [] }
        return entries.filter { !$0.value.isNull }.compactMap { Key(stringValue: $0.key) }
    }

    func contains(_ key: Key) -> Bool {
        decoder.keys.insert(key.stringValue)
        return decoder.node[key.stringValue] != nil || decoder.defaults?[key.stringValue] != nil
    }

    func decodeNil(forKey key: Key) -> Bool { !contains(key) }

    func decode<Value: Decodable>(_ type: Value.Type, forKey key: Key) throws -> Value {
        decoder.keys.insert(key.stringValue)
        let standard = decoder.defaults?[key.stringValue]
        guard let node = decoder.node[key.stringValue] else {
            guard let value = standard as? Value else { throw decoder.missing(key) }
            return value
        }
        return try decoder.child(key, node, ConfigurationDefaults(of: standard, for: node)).decode(type)
    }

    func nestedContainer<Nested: CodingKey>(
        keyedBy type: Nested.Type, forKey key: Key
    ) throws -> KeyedDecodingContainer<Nested> {
        try below(key).container(keyedBy: type)
    }

    func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
        try below(key).unkeyedContainer()
    }

    func superDecoder() throws -> any Decoder { decoder }
    func superDecoder(forKey key: Key) throws -> any Decoder { try below(key) }

    private func below(_ key: Key) throws -> ConfigurationDecoder {
        decoder.keys.insert(key.stringValue)
        guard let node = decoder.node[key.stringValue] else { throw decoder.missing(key) }
        return decoder.child(key, node)
    }
}

/// Decodes a list.
struct ListContainer: UnkeyedDecodingContainer {
    let decoder: ConfigurationDecoder
    let elements: [ConfigurationTree]
    private(set) var currentIndex = 0

    init(decoder: ConfigurationDecoder, elements: [ConfigurationTree]) {
        self.decoder = decoder
        self.elements = elements
    }

    var codingPath: [any CodingKey] { decoder.codingPath }
    var count: Int? { elements.count }
    var isAtEnd: Bool { currentIndex == elements.count }

    mutating func decodeNil() throws -> Bool {
        guard !isAtEnd, elements[currentIndex].isNull else { return false }
        currentIndex += 1
        return true
    }

    mutating func decode<Value: Decodable>(_ type: Value.Type) throws -> Value { try next().decode(type) }

    mutating func nestedContainer<Nested: CodingKey>(
        keyedBy type: Nested.Type
    ) throws -> KeyedDecodingContainer<Nested> {
        try next().container(keyedBy: type)
    }

    mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer { try next().unkeyedContainer() }

    mutating func superDecoder() throws -> any Decoder { try next() }

    private mutating func next() throws -> ConfigurationDecoder {
        guard !isAtEnd else { throw decoder.failure("there are only \(elements.count) elements") }
        defer { currentIndex += 1 }
        return decoder.child(ConfigurationKey(currentIndex), elements[currentIndex])
    }
}

/// Decodes a single value.
struct ValueContainer: SingleValueDecodingContainer {
    let decoder: ConfigurationDecoder

    var codingPath: [any CodingKey] { decoder.codingPath }

    func decodeNil() -> Bool { decoder.node.isNull }

    func decode<Value: Decodable>(_ type: Value.Type) throws -> Value { try decoder.decode(type) }
}

extension ConfigurationDecoder {
    /// Returns the error for a required key that is absent.
    fileprivate func missing(_ key: any CodingKey) -> PluginError { failure("'\(key.stringValue)' is missing") }
}
