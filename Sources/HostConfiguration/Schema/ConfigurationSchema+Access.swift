extension ConfigurationSchema {
    /// The section `access`. The identities come first, because the other keys refer to them.
    static let access = OptionSection<AccessOptions>(
        "the access rules",
        [
            ConfigurationOption(
                "identities", type: "mapping", text: { $0.identities.isEmpty ? "empty" : "mapping" },
                "names for peers; a value is a mapping with the keys below, or a list of them",
                "All keys of a mapping must match. Of a list, one mapping must match.",
                read: { reader, entry, access in access.identities = reader.identities(entry.value) }),
            ConfigurationOption(
                "announce", type: "list", text: { $0.announce.isEmpty ? "empty" : "list" },
                "who may announce which virtual addresses",
                "The entry with the longest pattern that matches decides alone.",
                read: { reader, entry, access in access.announce = reader.announceRules(entry.value) }),
            ConfigurationOption(
                "relay", type: namesType, text: { text($0.relay) },
                "who may carry streams and offers of other hosts: the routers",
                read: { reader, entry, access in access.relay = reader.identityNames(entry.value) }),
        ])

    /// The properties of an identity.
    static let matcher = OptionSection<AccessOptions.Matcher>(
        "an identity",
        [
            ConfigurationOption(
                "uri", \.uri, ValueType.pattern("a URI such as spiffe://mesh/shop/*", longest: 2_048).optional,
                "a URI of the peer's certificate; `*` at the end matches any rest"),
            ConfigurationOption(
                "dns", \.dns, ValueType.dnsPattern.optional,
                "a DNS name of the peer's certificate; `*.` at the beginning matches one label",
                "Upper and lower case are the same."),
            ConfigurationOption(
                "sha256", \.sha256, ValueType.sha256.optional,
                "SHA-256 of the public key of the peer's certificate (SubjectPublicKeyInfo, DER)"),
            ConfigurationOption(
                "uid", \.userID, ValueType.userID.optional, "the user ID of a peer at a Unix socket"),
            ConfigurationOption(
                "listen", type: "address", text: { $0.listen?.description ?? "none" },
                "the listener that accepted the link, one of `node.listen`",
                read: { reader, entry, matcher in matcher.listen = reader.configuredListener(entry.value) }),
        ])

    /// An entry of `announce`.
    static let announce = OptionSection<AccessOptions.Announce>(
        "a rule about announcements",
        [
            ConfigurationOption(
                "vaddr", \.vAddr, .pattern("a virtual address such as payments*"), required: true,
                "a virtual address without the environment; `*` at the end matches any rest"),
            ConfigurationOption(
                "by", type: namesType, text: { text($0.by) }, required: true,
                "the names of identities that may announce it",
                read: { reader, entry, announce in announce.by = reader.identityNames(entry.value) }),
        ])

    /// The key `access` of a route.
    static let routeAccess = OptionSection<RouteOptions.Access>(
        "access to a route",
        [
            ConfigurationOption(
                "allow", type: namesType, text: { $0.allow.map(text) ?? "none" },
                "who may call the route: names of identities, or any",
                "Needs the section `access`. With that section, a route without this key is denied to all.",
                read: { reader, entry, access in
                    guard reader.hasAccess else {
                        return reader.report("'allow' needs the section 'access'", at: entry.keyLocation)
                    }
                    access.allow = reader.identityNames(entry.value)
                }),
            ConfigurationOption(
                "rate", \.rate, ValueType.rate.orNone, "maximum requests of one caller per s, m or h; or none",
                "A caller is the name that a peer proves, such as the URI of its certificate, or the IP address of a peer "
                    + "that proves none. Further requests are refused as busy, with the time to wait."),
            ConfigurationOption(
                "burst", \.burst, ValueType.integer(1...1_000_000, "an integer, or none").orNone,
                "maximum requests of one caller at once, before `rate` limits them",
                "By default the requests of one second, at least 1."),
            ConfigurationOption(
                "concurrent", \.concurrent, ValueType.integer(1...1_000_000, "an integer, or none").orNone,
                "maximum open requests of one caller, or none", "Further ones are refused as busy."),
        ],
        check: { reader, entries, access in
            // Only if this section sets it: a route may switch off the rate of `defaults`.
            guard access.rate == nil, access.burst != nil, let entry = entries["burst"] else { return }
            reader.report("'burst' needs 'rate'", at: entry.keyLocation)
        })

    private static let namesType = "name, or a list"

    private static func text(_ names: Set<String>) -> String { "[\(names.sorted().joined(separator: ", "))]" }
}

extension ValueType<String> {
    /// Text of which the last character may be `*`.
    fileprivate static func pattern(_ expected: String, longest: Int = longestServiceName) -> ValueType {
        ValueType(
            "text",
            parse: { (node, _) throws(ConfigurationError) in
                let text = try node.serviceName(expected, longest: longest)
                guard !text.utf8.dropLast().contains(UInt8(ascii: "*")) else {
                    throw ConfigurationError("\(quoted(text)) has a '*' that is not at the end", at: node.location)
                }
                return text
            }, text: { $0 })
    }

    /// A DNS name, or `*.` and a DNS name.
    fileprivate static let dnsPattern = ValueType(
        "DNS name",
        parse: { (node, _) throws(ConfigurationError) in
            let expected = "a DNS name such as shop.example.org or *.shop.example.org"
            let text = try node.string(expected)
            let name = text.hasPrefix("*.") ? text.dropFirst(2) : text[...]
            let isValid = name.utf8.allSatisfy { byte in
                let character = Character(Unicode.Scalar(byte))
                return character.isASCII && (character.isLetter || character.isNumber || "-_.".contains(character))
            }
            let hasEmptyLabel = name.split(separator: ".", omittingEmptySubsequences: false).contains(where: \.isEmpty)
            guard isValid, !hasEmptyLabel, text.utf8.count <= 253 else { throw node.mismatch(expected) }
            return text
        }, text: { $0 })
}

extension ValueType<UInt32> {
    fileprivate static let userID = ValueType(
        "integer 0 to 4,294,967,294",
        parse: { (node, _) throws(ConfigurationError) in
            // The last number is no user: it means "unchanged" in chown(2).
            UInt32(try node.integer(in: 0...Int(UInt32.max - 1), "a user ID such as 1000"))
        }, text: { "\($0)" })
}

extension ValueType<RequestRate> {
    fileprivate static let rate = ValueType(
        "rate such as `100/s`",
        parse: { (node, _) throws(ConfigurationError) in
            let expected = "a rate such as 100/s, or none"
            guard case .scalar(let scalar) = node.content, node.isShown else { throw node.mismatch(expected) }
            if case .integer(let digits) = scalar.value {
                throw ConfigurationError(
                    "expected \(expected): \(quoted(digits)) has no unit (/s, /m or /h)", at: node.location)
            }
            guard let match = scalar.text.wholeMatch(of: #/([0-9]+)\/(s|m|h)/#),
                let unit = RequestRate.Unit(rawValue: String(match.output.2))
            else { throw node.mismatch(expected) }
            guard let requests = Int(match.output.1), (1...1_000_000).contains(requests) else {
                throw ConfigurationError("\(match.output.1) is not from 1 to 1000000", at: node.location)
            }
            return RequestRate(requests: requests, per: unit)
        }, text: { $0.description })
}
