/// A value of a YAML document with its place; aliases are replaced by what they stand for.
package struct YAMLNode: Sendable {
    package enum Content: Sendable {
        case scalar(YAMLScalar)
        case list([YAMLNode])
        /// In the order of the file; no key comes twice.
        case mapping([YAMLEntry])
        /// The reader has reported a problem here already: whoever meets this says nothing more about it.
        case unusable
    }

    package var content: Content
    /// Where the value begins, with its anchor and tag if it has any; of an alias, where the value it names begins.
    package var location: ConfigurationLocation

    package init(_ content: Content, at location: ConfigurationLocation) {
        self.content = content
        self.location = location
    }
}

/// A key and its value in a mapping.
package struct YAMLEntry: Sendable {
    package var key: String
    package var keyLocation: ConfigurationLocation
    package var value: YAMLNode

    package init(key: String, at keyLocation: ConfigurationLocation, value: YAMLNode) {
        self.key = key
        self.keyLocation = keyLocation
        self.value = value
    }
}

/// What kind of value a node is, for messages.
extension YAMLNode {
    /// Completes "expected …, found …".
    var found: String {
        switch content {
        case .list: "a list"
        case .mapping: "a mapping"
        case .unusable: "something unusable"
        case .scalar(let scalar):
            switch scalar.value {
            case .null: "nothing"
            case .boolean(let value): "the boolean \(value)"
            case .integer(let digits): "the integer \(digits)"
            case .number: "the number \(scalar.text)"
            case .string: "the text \(quoted(scalar.text))"
            }
        }
    }

    /// `null`, `~` or nothing at all, unquoted.
    var isNull: Bool {
        if case .scalar(let scalar) = content { scalar.value == .null } else { false }
    }
}
