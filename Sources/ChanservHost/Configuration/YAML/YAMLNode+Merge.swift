extension YAMLNode {
    /// This node with `override` merged over it: mappings key by key and at every depth, anything else is replaced.
    ///
    /// Keys keep their order, new ones follow; each value keeps the place it was written at. `null` replaces like any
    /// other value, and so unsets what stands below it.
    func merged(with override: YAMLNode) -> YAMLNode {
        // The depth of a tree is bounded by YAMLLimits.depth, and so is this recursion.
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
