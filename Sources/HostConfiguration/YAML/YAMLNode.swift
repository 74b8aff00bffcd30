/// A value of a YAML document with its position. Aliases are replaced by the values of their anchors.
package struct YAMLNode: Sendable {
    package enum Content: Sendable {
        case scalar(YAMLScalar)
        case list([YAMLNode])
        /// The entries in the order of the file, without duplicate keys.
        case mapping([YAMLEntry])
        /// The reader has already reported an error here; no further error is reported for this value.
        case unusable
    }

    package var content: Content
    /// The start of the value, including its anchor and tag. For an alias, the start of the anchor's value.
    package var location: ConfigurationLocation

    package init(_ content: Content, at location: ConfigurationLocation) {
        self.content = content
        self.location = location
    }
}

/// A key of a mapping and its value.
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

/// Descriptions for messages.
extension YAMLNode {
    /// The value for a message "expected …, found …".
    var found: String {
        switch content {
        case .list: "a list"
        case .mapping: "a mapping"
        case .unusable: "something unusable"
        case .scalar(let scalar) where scalar.shown != nil: "the value of \(scalar.quotedText)"
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

    /// Whether the value is `null`, `~` or missing, without quotes.
    var isNull: Bool {
        if case .scalar(let scalar) = content { scalar.value == .null } else { false }
    }
}
