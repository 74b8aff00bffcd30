/// The default values of a type's properties, by key, taken from an example. They apply to keys that the configuration
/// does not set.
struct ConfigurationDefaults {
    private let values: [String: any Encodable]

    subscript(key: String) -> (any Encodable)? { values[key] }

    init(of example: some Encodable) throws {
        let recorder = Recorder()
        try example.encode(to: recorder)
        values = recorder.values
    }

    /// Creates the defaults for a nested value; `nil` if there are none. A configured dictionary or list replaces its
    /// whole default. Only types with keys of their own are filled in.
    init?(of example: (any Encodable)?, for node: ConfigurationTree) throws {
        guard let example, !(example is any ExpressibleByDictionaryLiteral), case .mapping = node else { return nil }
        try self.init(of: example)
    }

    /// Records the values that are encoded with a key of the topmost mapping.
    private final class Recorder: Encoder {
        var values: [String: any Encodable] = [:]
        let codingPath: [any CodingKey] = []
        let userInfo: [CodingUserInfoKey: Any] = [:]

        func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
            KeyedEncodingContainer(Keyed(recorder: self))
        }

        func unkeyedContainer() -> any UnkeyedEncodingContainer { Ignored() }
        func singleValueContainer() -> any SingleValueEncodingContainer { Ignored() }
    }

    private struct Keyed<Key: CodingKey>: KeyedEncodingContainerProtocol {
        let recorder: Recorder
        let codingPath: [any CodingKey] = []

        func encodeNil(forKey key: Key) {}
        func encode<Value: Encodable>(_ value: Value, forKey key: Key) { recorder.values[key.stringValue] = value }

        func nestedContainer<Nested: CodingKey>(
            keyedBy type: Nested.Type, forKey key: Key
        ) -> KeyedEncodingContainer<Nested> {
            KeyedEncodingContainer(Keyed<Nested>(recorder: Recorder()))
        }

        func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer { Ignored() }
        func superEncoder() -> any Encoder { recorder }
        func superEncoder(forKey key: Key) -> any Encoder { Recorder() }
    }

    /// Ignores lists and single values. They have no keys that could be left out.
    private struct Ignored: UnkeyedEncodingContainer, SingleValueEncodingContainer {
        let codingPath: [any CodingKey] = []
        let count = 0

        func encodeNil() {}
        func encode<Value: Encodable>(_ value: Value) {}

        func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type) -> KeyedEncodingContainer<Nested> {
            KeyedEncodingContainer(Keyed<Nested>(recorder: Recorder()))
        }

        func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer { Ignored() }
        func superEncoder() -> any Encoder { Recorder() }
    }
}
