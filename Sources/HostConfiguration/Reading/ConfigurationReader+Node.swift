extension ConfigurationReader {
    /// Reports routes on a node with the role `client`. A client announces no services, so no other node could reach
    /// the routes.
    ///
    /// - Parameters:
    ///   - node: the value of the `node` section, if the file has one.
    ///   - routes: the routes that were read.
    mutating func checkRole(_ role: HostConfiguration.Node.Role, _ node: YAMLNode?, _ routes: [HostConfiguration.Route])
    {
        guard role == .client, let first = routes.first, let node, case .mapping(let entries) = node.content,
            let entry = entries.first(where: { $0.key == "role" })
        else { return }
        report(
            "a node with the role client announces no services, so its routes cannot be reached "
                + "(first route: \(first.location.withinFile)): choose server, peer or router",
            at: entry.value.location)
    }

    /// Returns one address or a list of them, and the position of the first occurrence of each.
    mutating func addresses(
        _ node: YAMLNode, portZero: Bool
    ) -> (addresses: [HostAddress], places: [HostAddress: ConfigurationLocation]) {
        let nodes = if case .list(let elements) = node.content { elements } else { [node] }
        var places: [HostAddress: ConfigurationLocation] = [:]
        var result: [HostAddress] = []
        for node in nodes {
            if case .unusable = node.content { continue }
            let folder = folder
            let address = attempt { () throws(ConfigurationError) in
                try node.address(portZero: portZero, folder: folder)
            }
            guard let address else { continue }
            if let first = places[address], address.port != 0 {
                report("duplicate address \(address) (first: \(first.withinFile))", at: node.location)
                continue
            }
            if places[address] == nil { places[address] = node.location }
            result.append(address)
        }
        return (result, places)
    }
}

extension YAMLNode {
    fileprivate func address(portZero: Bool, folder: String) throws(ConfigurationError) -> HostAddress {
        let expected = "an address such as 127.0.0.1:5555"
        let purpose = portZero ? HostAddress.Purpose.listenKey : .joinKey
        if case .scalar(let scalar) = content, case .integer(let digits) = scalar.value, UInt16(digits) != nil {
            throw ConfigurationError(
                "expected \(expected), found \(found): \(HostAddress.suggestion(port: digits, purpose))", at: location)
        }
        let text = try string(expected)
        let address: HostAddress
        do {
            address = try HostAddress(text, for: purpose, folder: folder)
        } catch {
            throw ConfigurationError("expected \(expected): \(error)", at: location)
        }
        return address
    }

    /// Returns a name that is sent as a service name or as a part of one: 1 to 255 bytes of UTF-8 without control
    /// characters.
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

/// Maximum length of a virtual address with its environment, in bytes.
let longestServiceName = 255
