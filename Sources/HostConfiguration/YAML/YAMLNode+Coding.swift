/// JSON coding of trees with their positions, to pass a configuration to a worker process of the same program. The
/// format is private and may change.
extension YAMLNode: Codable {
    private enum CodingKeys: String, CodingKey {
        case file, line, column, text, isQuoted, list, mapping
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(location.file, forKey: .file)
        try container.encode(location.line, forKey: .line)
        try container.encode(location.column, forKey: .column)
        switch content {
        case .scalar(let scalar):
            try container.encode(scalar.text, forKey: .text)
            try container.encode(scalar.value == .string, forKey: .isQuoted)
        case .list(let elements): try container.encode(elements, forKey: .list)
        case .mapping(let entries): try container.encode(entries, forKey: .mapping)
        case .unusable:
            throw EncodingError.invalidValue(
                self, .init(codingPath: encoder.codingPath, debugDescription: "a tree with errors cannot be encoded"))
        }
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        location = ConfigurationLocation(
            file: try container.decode(String.self, forKey: .file), line: try container.decode(Int.self, forKey: .line),
            column: try container.decode(Int.self, forKey: .column))
        if let text = try container.decodeIfPresent(String.self, forKey: .text) {
            content = .scalar(
                try container.decode(Bool.self, forKey: .isQuoted) ? YAMLScalar(string: text) : YAMLScalar(plain: text))
        } else if let elements = try container.decodeIfPresent([YAMLNode].self, forKey: .list) {
            content = .list(elements)
        } else {
            content = .mapping(try container.decode([YAMLEntry].self, forKey: .mapping))
        }
    }
}

extension YAMLEntry: Codable {
    private enum CodingKeys: String, CodingKey {
        case key, file, line, column, value
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(key, forKey: .key)
        try container.encode(keyLocation.file, forKey: .file)
        try container.encode(keyLocation.line, forKey: .line)
        try container.encode(keyLocation.column, forKey: .column)
        try container.encode(value, forKey: .value)
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            key: try container.decode(String.self, forKey: .key),
            at: ConfigurationLocation(
                file: try container.decode(String.self, forKey: .file),
                line: try container.decode(Int.self, forKey: .line),
                column: try container.decode(Int.self, forKey: .column)),
            value: try container.decode(YAMLNode.self, forKey: .value))
    }
}
