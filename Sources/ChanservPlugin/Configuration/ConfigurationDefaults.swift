/// The values of a type's properties by their keys, taken from an example: what counts where the configuration says
/// nothing.
struct ConfigurationDefaults {
    private let values: [String: any Encodable]

    subscript(key: String) -> (any Encodable)? { values[key] }

    init(of example: some Encodable) throws {
        let recorder = Recorder()
        try example.encode(to: recorder)
        values = recorder.values
    }

    /// The defaults below a default; none where there is nothing to be left out. A map that is configured takes the
    /// place of the whole default, as a list does: only types with keys of their own are filled in.
    init?(of example: (any Encodable)?, for node: ConfigurationTree) throws {
        guard let example, !(example is any ExpressibleByDictionaryLiteral), case .mapping = node else { return nil }
        try self.init(of: example)
    }

    /// Keeps what is encoded with a key of the topmost mapping, as it is.
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

    /// Lists and single values have no keys that could be left out.
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
