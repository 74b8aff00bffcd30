extension ConfigurationReader {
    /// Reads the section `access`. A section without entries allows nothing.
    mutating func accessOptions(_ node: YAMLNode) -> AccessOptions {
        hasAccess = true
        identityNames = []
        // A section that is wrong as a whole is reported once, and not again for each name.
        if case .unusable = node.content { identityNames = nil }
        var access = AccessOptions()
        let problemsBefore = problems.count
        let entries = section(node, ConfigurationSchema.access, into: &access)
        if entries.isEmpty, problems.count > problemsBefore { identityNames = nil }
        return access
    }

    /// Returns warnings about listeners without rules, and about routes that are denied to all.
    func accessWarnings(
        _ access: AccessOptions?, _ node: HostConfiguration.Node, _ routes: [HostConfiguration.Route], file: String
    ) -> [ConfigurationError] {
        guard access == nil else {
            return routes.filter { $0.options.access.allow == nil }.map { route in
                ConfigurationError(
                    "the route \(quoted(route.vAddr)) has no 'access.allow', so the section 'access' denies it to all: "
                        + "add 'access: {allow: [NAME]}'", at: route.location)
            }
        }
        guard let open = node.listen.first(where: \.isOpenToOtherMachines) else { return [] }
        return [
            ConfigurationError(
                "\(open.address) accepts links from other machines without rules: every peer that reaches it can call all "
                    + "routes and announce any name; add the section 'access', or TLS with 'client_ca'",
                at: open.location ?? ConfigurationLocation(file: file))
        ]
    }

    /// Returns the identities, and keeps their names for the rules that refer to them.
    mutating func identities(_ node: YAMLNode) -> [AccessOptions.Identity] {
        if node.isNull { return [] }
        identityNames = nil
        if case .unusable = node.content { return [] }
        let entries = attempt { () throws(ConfigurationError) in
            try node.mapping("a mapping from names to identities")
        }
        guard let entries else { return [] }
        identityNames = entries.map(\.key)
        return entries.compactMap { entry in
            let key = YAMLNode(.scalar(YAMLScalar(string: entry.key)), at: entry.keyLocation)
            _ = attempt { () throws(ConfigurationError) in try key.serviceName("the name of an identity") }
            guard entry.key != AccessOptions.anyone else {
                report("'any' stands for every caller: choose another name", at: entry.keyLocation)
                return nil
            }
            let matchers = matchers(entry.value)
            return matchers.isEmpty ? nil : AccessOptions.Identity(name: entry.key, matchers: matchers)
        }
    }

    /// Returns the properties of an identity: one mapping, or a list of them.
    private mutating func matchers(_ node: YAMLNode) -> [AccessOptions.Matcher] {
        let elements = if case .list(let elements) = node.content { elements } else { [node] }
        if elements.isEmpty { reportEmptyIdentity(at: node.location) }
        return elements.compactMap { element in
            if case .unusable = element.content { return nil }
            var matcher = AccessOptions.Matcher()
            let problemsBefore = problems.count
            _ = section(element, ConfigurationSchema.matcher, into: &matcher)
            if matcher == AccessOptions.Matcher(), problems.count == problemsBefore {
                reportEmptyIdentity(at: element.location)
                return nil
            }
            return matcher
        }
    }

    private mutating func reportEmptyIdentity(at location: ConfigurationLocation) {
        let keys = ConfigurationSchema.matcher.keys.joined(separator: ", ")
        report("an identity without properties matches no caller: add at least one of \(keys)", at: location)
    }

    /// Returns the address of a listener in `node.listen`; `nil` if it is wrong, which is reported.
    mutating func configuredListener(_ node: YAMLNode) -> HostAddress? {
        if case .unusable = node.content { return nil }
        let folder = folder
        let address = attempt { () throws(ConfigurationError) in try node.address(.listenKey, folder: folder) }
        guard let address, let listenAddresses else { return address }
        guard listenAddresses.contains(address) else {
            let known = listenAddresses.map(\.description).joined(separator: ", ")
            report("\(address) is not an address of node.listen (\(known))", at: node.location)
            return nil
        }
        return address
    }

    /// Returns the rules about announcements.
    mutating func announceRules(_ node: YAMLNode) -> [AccessOptions.Announce] {
        if case .unusable = node.content { return [] }
        if node.isNull { return [] }
        let elements = attempt { () throws(ConfigurationError) in
            try node.list("a list of rules, each with vaddr and by")
        }
        var places: [String: ConfigurationLocation] = [:]
        return (elements ?? []).compactMap { element in
            if case .unusable = element.content { return nil }
            guard case .mapping = element.content else {
                report("expected a rule with vaddr and by, found \(element.found)", at: element.location)
                return nil
            }
            var rule = AccessOptions.Announce()
            let entries = section(element, ConfigurationSchema.announce, into: &rule)
            for option in ConfigurationSchema.announce.options where option.isRequired && entries[option.key] == nil {
                report("the rule needs the key \(quoted(option.key))", at: element.location)
            }
            guard let location = entries["vaddr"]?.value.location, !rule.vAddr.isEmpty else { return nil }
            if let first = places[rule.vAddr] {
                report("duplicate vaddr \(quoted(rule.vAddr)) (first: \(first.withinFile))", at: location)
                return nil
            }
            places[rule.vAddr] = location
            return rule
        }
    }

    /// Returns the names of identities in a rule: one, or a list.
    mutating func identityNames(_ node: YAMLNode) -> Set<String> {
        let elements = if case .list(let elements) = node.content { elements } else { [node] }
        var names: Set<String> = []
        for element in elements {
            if case .unusable = element.content { continue }
            let name = attempt { () throws(ConfigurationError) in try element.string("the name of an identity") }
            guard let name else { continue }
            if let known = identityNames, name != AccessOptions.anyone, !known.contains(name) {
                let hint = NearestKey.hint(name, among: known + [AccessOptions.anyone])
                report("no identity has the name \(quoted(name))" + hint, at: element.location)
            }
            names.insert(name)
        }
        return names
    }
}

extension ListenOptions {
    /// Whether programs on other machines can make links, without a certificate that the operator has signed.
    fileprivate var isOpenToOtherMachines: Bool {
        guard !address.isLocal else { return false }
        return tls.map { $0.clientCA == nil || !$0.isRequired } ?? true
    }
}

extension HostAddress {
    /// Whether only programs on this machine reach a listener with this address: a loopback address or a Unix socket.
    fileprivate var isLocal: Bool {
        switch self {
        case .unix: true
        case .tcp(let host, port: _):
            host == "localhost" || host == "::1"
                || host.hasPrefix("127.") && host.allSatisfy { $0.isASCII && $0.isNumber || $0 == "." }
        }
    }
}
