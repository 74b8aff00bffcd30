extension ConfigurationReader {
    /// The `node` section.
    mutating func node(_ root: YAMLNode) -> HostConfiguration.Node {
        var result = HostConfiguration.Node()
        let entries = section(root, "the node", known: ["listen", "join", "environment", "drain"])
        if let entry = entries["listen"] {
            let (addresses, places) = addresses(entry.value, portZero: true)
            if addresses.isEmpty, case .list = entry.value.content {
                report("expected at least one address to listen at", at: entry.value.location)
            }
            result.listen = addresses
            result.listenLocations = places
        }
        if let entry = entries["join"] { result.join = addresses(entry.value, portZero: false).addresses }
        result.environment = value("environment", in: entries) { (node) throws(ConfigurationError) in
            try node.serviceName("an environment such as staging")
        }
        if let value = duration("drain", in: entries) { result.drain = value }
        return result
    }

    /// One address or a list of them, and where each stands first.
    private mutating func addresses(
        _ node: YAMLNode, portZero: Bool
    ) -> (addresses: [HostAddress], places: [HostAddress: ConfigurationLocation]) {
        let nodes = if case .list(let elements) = node.content { elements } else { [node] }
        var places: [HostAddress: ConfigurationLocation] = [:]
        var result: [HostAddress] = []
        for node in nodes {
            if case .unusable = node.content { continue }
            let address = attempt { () throws(ConfigurationError) in try node.address(portZero: portZero) }
            guard let address else { continue }
            if let first = places[address], address.port != 0 {
                report("\(address) stands here a second time (first at \(first))", at: node.location)
                continue
            }
            if places[address] == nil { places[address] = node.location }
            result.append(address)
        }
        return (result, places)
    }
}

extension YAMLNode {
    fileprivate func address(portZero: Bool) throws(ConfigurationError) -> HostAddress {
        let expected = "an address such as 127.0.0.1:5555"
        let text = try string(expected)
        let address: HostAddress
        do {
            address = try HostAddress(text)
        } catch {
            throw ConfigurationError("expected \(expected): \(error)", at: location)
        }
        guard portZero || address.port != 0 else {
            throw ConfigurationError("expected \(expected): port 0 cannot be joined", at: location)
        }
        return address
    }

    /// A name that travels as (a part of) a service's: 1 to 255 bytes of UTF-8 without control characters.
    func serviceName(_ expected: String) throws(ConfigurationError) -> String {
        let name = try string(expected)
        guard !name.isEmpty else { throw ConfigurationError("expected \(expected), found an empty text", at: location) }
        guard name.utf8.count <= longestServiceName else {
            throw ConfigurationError(
                "\(quoted(name)) is longer than \(longestServiceName) bytes (it has \(name.utf8.count))", at: location)
        }
        guard !name.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) else {
            throw ConfigurationError("\(quoted(name)) has a control character in it", at: location)
        }
        return name
    }
}

/// Bytes of a service's name in SERVICE ops, environment included.
let longestServiceName = 255
