extension ConfigurationReader {
    private static let nodeKeys = ["listen", "join", "role", "environment", "drain", "limits", "control"]

    /// Reads the `node` section.
    ///
    /// - Parameter folder: the absolute folder that relative paths are resolved against.
    mutating func node(_ root: YAMLNode, folder: String) -> HostConfiguration.Node {
        var result = HostConfiguration.Node()
        let entries = section(root, "the node", known: Self.nodeKeys)
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
        if let value = value("role", in: entries, { (node) throws(ConfigurationError) in try node.role() }) {
            result.role = value
        }
        result.control = value("control", in: entries) { (node) throws(ConfigurationError) in
            try node.socketPath(relativeTo: folder)
        }
        result.controlLocation = entries["control"]?.value.location
        if let entry = entries["limits"] { readLimits(entry.value, into: &result.limits) }
        return result
    }

    private static let counts: [(String, WritableKeyPath<HostConfiguration.Node.Limits, Int> & Sendable)] = [
        ("links", \.links), ("streams", \.streams), ("half_open", \.halfOpen), ("services", \.services),
    ]

    private mutating func readLimits(_ node: YAMLNode, into limits: inout HostConfiguration.Node.Limits) {
        let entries = section(
            node, "the node's limits", known: Self.counts.map(\.0) + ["buffer", "total_buffer"])
        for (key, path) in Self.counts {
            if let value = integer(key, in: entries, 1...(1 << 24)) { limits[keyPath: path] = value }
        }
        // A smaller limit could not hold the windows of a few streams.
        let sizes = (1 << 20)...(1 << 40)
        let total = value("total_buffer", in: entries) { (node) throws(ConfigurationError) in try node.size(in: sizes) }
        let buffer = value("buffer", in: entries) { (node) throws(ConfigurationError) in try node.size(in: sizes) }
        limits.totalBuffer = total ?? limits.totalBuffer
        // If only `total_buffer` is set and smaller than the default of `buffer`, one link may use all of it.
        limits.buffer = buffer ?? min(limits.buffer, limits.totalBuffer)
        guard limits.buffer > limits.totalBuffer, let entry = entries["buffer"] else { return }
        report(
            "buffer, the limit of one link (\(ValueGrammar.text(bytes: limits.buffer))), is larger than total_buffer, "
                + "the limit of all links (\(ValueGrammar.text(bytes: limits.totalBuffer)))", at: entry.value.location)
    }

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
    fileprivate func address(portZero: Bool) throws(ConfigurationError) -> HostAddress {
        let expected = "an address such as 127.0.0.1:5555"
        let purpose = portZero ? HostAddress.Purpose.listenKey : .joinKey
        if case .scalar(let scalar) = content, case .integer(let digits) = scalar.value, UInt16(digits) != nil {
            throw ConfigurationError(
                "expected \(expected), found \(found): \(HostAddress.suggestion(port: digits, purpose))", at: location)
        }
        let text = try string(expected)
        let address: HostAddress
        do {
            address = try HostAddress(text, for: purpose)
        } catch {
            throw ConfigurationError("expected \(expected): \(error)", at: location)
        }
        return address
    }

    fileprivate func role() throws(ConfigurationError) -> HostConfiguration.Node.Role {
        let names = HostConfiguration.Node.Role.allCases.map(\.rawValue)
        let text = try string("a role (\(names.joined(separator: ", ")))")
        guard let role = HostConfiguration.Node.Role(rawValue: text) else {
            let hint = NearestKey.hint(text, among: names)
            throw ConfigurationError(
                "unknown role \(quoted(text))" + (hint.isEmpty ? " (known: \(names.joined(separator: ", ")))" : hint),
                at: location)
        }
        return role
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
