extension ConfigurationSchema {
    /// The key `tls` of a listener.
    static let serverTLS = OptionSection<ServerTLSOptions>(
        "TLS of a listener",
        [
            ConfigurationOption(
                "certificate", \.certificate, .file, required: true,
                "the certificate chain in PEM, the host's own certificate first"),
            ConfigurationOption(
                "key", \.key, .file, required: true, "the private key of the certificate in PEM",
                "Other users must not be able to read the file."),
            ConfigurationOption(
                "client_ca", \.clientCA, ValueType.file.optional,
                "the certificates in PEM that sign those of clients",
                "Each client must then show a certificate. Without this key the listener asks for none."),
            ConfigurationOption(
                "require", \.isRequired, .boolean, "`false`: accept connections without TLS too",
                "For the time of a change: peers without TLS prove no identity by a certificate."),
            minimumVersion(\.minimumVersion),
        ])

    /// The key `tls` of a node to join.
    static let clientTLS = OptionSection<ClientTLSOptions>(
        "TLS of a node to join",
        [
            ConfigurationOption(
                "ca", \.ca, ValueType.file.optional, "the certificates in PEM that sign that of the node",
                "Without this key those of the system."),
            ConfigurationOption(
                "certificate", \.certificate, ValueType.file.optional,
                "the certificate chain in PEM that the host shows to the node", "It needs `key`."),
            ConfigurationOption(
                "key", \.key, ValueType.file.optional, "the private key of the certificate in PEM",
                "Other users must not be able to read the file."),
            ConfigurationOption(
                "name", \.name, ValueType.serverName.optional, "the name that the certificate of the node must have",
                "Without this key the host of the address."),
            minimumVersion(\.minimumVersion),
        ],
        check: { reader, entries, _ in
            let needed = [("certificate", "key"), ("key", "certificate")]
            for (key, other) in needed where entries[other] == nil {
                guard let entry = entries[key] else { continue }
                reader.report("\(quoted(key)) needs \(quoted(other)) beside it", at: entry.keyLocation)
            }
        })

    private static func minimumVersion<Target>(
        _ path: WritableKeyPath<Target, TLSVersion> & Sendable
    ) -> ConfigurationOption<Target> {
        ConfigurationOption("min_version", path, .tlsVersion, "the lowest version of TLS, 1.2 or 1.3")
    }

    /// Returns an entry of `node.listen` in the notation of the file.
    static func text(_ listen: ListenOptions) -> String {
        if listen.mode != ListenOptions.defaultMode {
            return "{address: \(quoted(listen.address.description)), mode: 0\(String(listen.mode, radix: 8))}"
        }
        guard let tls = listen.tls else { return listen.address.description }
        return "{address: \(quoted(listen.address.description)), tls: \(text(tls, serverTLS))}"
    }

    /// Returns an entry of `node.join` in the notation of the file.
    static func text(_ join: JoinOptions) -> String {
        guard let tls = join.tls else { return join.address.description }
        return "{address: \(quoted(join.address.description)), tls: \(text(tls, clientTLS))}"
    }

    /// Returns the options that have a value.
    private static func text<Target>(_ target: Target, _ section: OptionSection<Target>) -> String {
        let rows = section.options.flatMap { $0.rows(target) }.filter { $0.value != "none" }
        return "{\(rows.map { "\($0.keys.joined(separator: ".")): \($0.value)" }.joined(separator: ", "))}"
    }
}

extension ValueType<ConfiguredFile> {
    /// The path of a file, with its position.
    fileprivate static let file = ValueType(
        "path",
        parse: { (node, folder) throws(ConfigurationError) in
            ConfiguredFile(path: try node.path(relativeTo: folder), location: node.location)
        }, text: { $0.path })
}

extension ValueType<TLSVersion> {
    /// A version. Reads the text of the scalar, because YAML takes `1.3` without quotes for a number.
    fileprivate static let tlsVersion = ValueType(
        "`1.2` or `1.3`",
        parse: { (node, _) throws(ConfigurationError) in
            guard case .scalar(let scalar) = node.content, let version = TLSVersion(rawValue: scalar.text) else {
                throw node.mismatch("a version of TLS (1.2 or 1.3)")
            }
            return version
        }, text: { $0.rawValue })
}

extension ValueType<String> {
    /// The name of a server: a DNS name or an IP address.
    fileprivate static let serverName = ValueType(
        "name",
        parse: { (node, _) throws(ConfigurationError) in
            let expected = "a name such as router-1.example.org"
            let name = try node.string(expected)
            guard (1...253).contains(name.utf8.count), name.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
                throw node.mismatch(expected)
            }
            return name
        }, text: { $0 })
}
