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

    /// Returns the entries of `node.listen`: one address or mapping, or a list of them.
    mutating func listeners(_ node: YAMLNode) -> [ListenOptions] {
        links(node, .listenKey, "a listener").map { link in
            var options = ListenOptions(
                link.address, tls: link.tls.flatMap { serverTLS($0) }, location: link.location)
            if let entry = link.mode {
                if case .tcp = link.address {
                    report("'mode' is for Unix sockets: remove it", at: entry.keyLocation)
                } else if let mode = attempt({ () throws(ConfigurationError) in try entry.value.fileMode() }) {
                    options.mode = mode
                }
            }
            return options
        }
    }

    /// Returns the entries of `node.join`: one address or mapping, or a list of them.
    mutating func joins(_ node: YAMLNode) -> [JoinOptions] {
        links(node, .joinKey, "a node to join").map { link in
            var options = JoinOptions(link.address, location: link.location)
            if let entry = link.tls {
                var tls = ClientTLSOptions()
                _ = section(entry.value, ConfigurationSchema.clientTLS, into: &tls)
                options.tls = tls
            }
            return options
        }
    }

    /// An entry of `node.listen` or `node.join`.
    private struct Link {
        var address: HostAddress
        /// The key `tls` and its value.
        var tls: YAMLEntry?
        /// The key `mode` and its value.
        var mode: YAMLEntry?
        var location: ConfigurationLocation
    }

    private mutating func links(_ node: YAMLNode, _ purpose: HostAddress.Purpose, _ name: String) -> [Link] {
        let elements = if case .list(let elements) = node.content { elements } else { [node] }
        var first: [HostAddress: Link] = [:]
        var result: [Link] = []
        for element in elements {
            guard let link = link(element, purpose, name) else { continue }
            // Port 0 stands for another port each time. But TLS and identities are found by the address in the file.
            if let first = first[link.address], link.address.port != 0 || link.tls != nil || first.tls != nil {
                report("duplicate address \(link.address) (first: \(first.location.withinFile))", at: link.location)
                continue
            }
            if first[link.address] == nil { first[link.address] = link }
            if case .unix = link.address, let tls = link.tls {
                report("a Unix socket needs no TLS: remove 'tls'", at: tls.keyLocation)
            }
            result.append(link)
        }
        return result
    }

    private mutating func link(_ node: YAMLNode, _ purpose: HostAddress.Purpose, _ name: String) -> Link? {
        var addressNode = node
        var (tls, mode): (YAMLEntry?, YAMLEntry?)
        if case .mapping = node.content {
            let entries = entries(
                node, name, known: purpose.listens ? ["address", "tls", "mode"] : ["address", "tls"])
            tls = entries["tls"]
            mode = entries["mode"]
            guard let entry = entries["address"] else {
                report("\(name) needs the key 'address'", at: node.location)
                return nil
            }
            addressNode = entry.value
        }
        if case .unusable = addressNode.content { return nil }
        let folder = folder
        let address = attempt { () throws(ConfigurationError) in
            try addressNode.address(purpose, folder: folder)
        }
        return address.map { Link(address: $0, tls: tls, mode: mode, location: addressNode.location) }
    }

    /// Returns the TLS options of a listener; `nil` if a file is missing, which is reported.
    private mutating func serverTLS(_ entry: YAMLEntry) -> ServerTLSOptions? {
        let missing = ConfiguredFile(path: "", location: entry.keyLocation)
        var options = ServerTLSOptions(certificate: missing, key: missing)
        let problemsBefore = problems.count
        let entries = section(entry.value, ConfigurationSchema.serverTLS, into: &options)
        // Not after "expected a mapping": that error already says the same.
        guard problems.count == problemsBefore || !entries.isEmpty else { return nil }
        for option in ConfigurationSchema.serverTLS.options where option.isRequired && entries[option.key] == nil {
            report("TLS of a listener needs the key \(quoted(option.key))", at: entry.keyLocation)
        }
        return options.certificate.path.isEmpty || options.key.path.isEmpty ? nil : options
    }
}

extension YAMLNode {
    /// Returns the permissions of a file. Reads the text of the scalar, because YAML takes `0660` for a number.
    fileprivate func fileMode() throws(ConfigurationError) -> UInt32 {
        guard case .scalar(let scalar) = content, scalar.text.wholeMatch(of: #/0?[0-7]{3}/#) != nil,
            let mode = UInt32(scalar.text, radix: 8)
        else { throw mismatch("the permissions of a file such as 0660") }
        return mode
    }

    func address(_ purpose: HostAddress.Purpose, folder: String) throws(ConfigurationError) -> HostAddress {
        let expected = "an address such as 127.0.0.1:5555"
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

    /// Returns a name that is sent as a service name or as a part of one: UTF-8 without control characters.
    ///
    /// - Parameter longest: the maximum length in bytes.
    func serviceName(
        _ expected: String, longest: Int = longestServiceName
    ) throws(ConfigurationError) -> String {
        let name = try string(expected)
        guard !name.isEmpty else { throw ConfigurationError("expected \(expected), found an empty text", at: location) }
        guard name.utf8.count <= longest else {
            throw ConfigurationError(
                "\(quoted(name)) is longer than \(longest) bytes (it has \(name.utf8.count))", at: location)
        }
        guard !name.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) else {
            throw ConfigurationError("\(quoted(name)) has a control character in it", at: location)
        }
        return name
    }
}

/// Maximum length of a virtual address with its environment, in bytes.
let longestServiceName = 255
