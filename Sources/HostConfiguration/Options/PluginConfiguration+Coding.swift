/// The encoding contains file positions, so that getters in the worker report the same line as in the host.
extension PluginConfiguration: Codable {
    private enum CodingKeys: CodingKey {
        case folder, root
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(folder, forKey: .folder)
        try container.encode(root, forKey: .root)
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            try container.decode(YAMLNode.self, forKey: .root),
            folder: try container.decode(String.self, forKey: .folder))
    }
}
