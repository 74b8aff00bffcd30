internal import HostConfiguration

extension PluginConfiguration {
    /// Returns a copy with another top-level key; `nil` if the key already exists.
    func adding(key: String, value: YAMLNode.Content = .scalar(YAMLScalar(string: "x"))) -> PluginConfiguration? {
        changing { entries in
            guard !entries.contains(where: { $0.key == key }) else { return false }
            entries.append(YAMLEntry(key: key, at: location, value: YAMLNode(value, at: location)))
            return true
        }
    }

    /// Returns a copy with `value` at the top-level key, which is added or replaced.
    func setting(key: String, to value: YAMLNode.Content) -> PluginConfiguration? {
        changing { entries in
            entries.removeAll { $0.key == key }
            entries.append(YAMLEntry(key: key, at: location, value: YAMLNode(value, at: location)))
            return true
        }
    }

    private func changing(_ change: (inout [YAMLEntry]) -> Bool) -> PluginConfiguration? {
        var entries: [YAMLEntry] = []
        if case .mapping(let known) = root.content { entries = known }
        guard change(&entries) else { return nil }
        return PluginConfiguration(YAMLNode(.mapping(entries), at: location), folder: folder)
    }
}
