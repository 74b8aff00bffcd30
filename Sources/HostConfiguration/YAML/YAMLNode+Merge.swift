extension YAMLNode {
    /// Returns this node with `override` merged over it. Mappings are merged key by key at every depth; any other value
    /// is replaced.
    ///
    /// Keys keep their order and new ones follow. Each value keeps its position. `null` replaces like any other value,
    /// which unsets the value below it.
    func merged(with override: YAMLNode) -> YAMLNode {
        // The recursion is bounded by YAMLLimits.depth.
        guard case .mapping(var entries) = content, case .mapping(let overrides) = override.content else {
            return override
        }
        var places: [String: Int] = [:]
        places.reserveCapacity(entries.count)
        for (index, entry) in entries.enumerated() { places[entry.key] = index }
        for entry in overrides {
            if let index = places[entry.key] {
                entries[index].keyLocation = entry.keyLocation
                entries[index].value = entries[index].value.merged(with: entry.value)
            } else {
                entries.append(entry)
            }
        }
        return YAMLNode(.mapping(entries), at: override.location)
    }
}
