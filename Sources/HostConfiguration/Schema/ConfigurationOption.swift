/// One key of the configuration file: its parser, its default and its documentation.
///
/// The schema is the only description of the keys. ``ConfigurationReader`` reads with it and suggests similar keys from
/// it; the tables of `docs/configuration.md` and the comments of `chanserv.yaml` are compared with it by tests.
struct ConfigurationOption<Target>: Sendable {
    let key: String
    let isRequired: Bool
    /// Reads the entry with this key into the target. Reports a wrong value and keeps the target then.
    let read: @Sendable (inout ConfigurationReader, YAMLEntry, inout Target) -> Void
    /// Returns the option with its value in the target. A section returns all of its options.
    let rows: @Sendable (Target) -> [OptionRow]

    private init(
        key: String, isRequired: Bool = false,
        read: @escaping @Sendable (inout ConfigurationReader, YAMLEntry, inout Target) -> Void,
        rows: @escaping @Sendable (Target) -> [OptionRow]
    ) {
        self.key = key
        self.isRequired = isRequired
        self.read = read
        self.rows = rows
    }

    /// A key with one value.
    ///
    /// - Parameters:
    ///   - path: the property of the target.
    ///   - summary: a short phrase, the comment in `chanserv.yaml`.
    ///   - details: the sentences that follow it in the reference.
    init<Value>(
        _ key: String, _ path: WritableKeyPath<Target, Value> & Sendable, _ type: ValueType<Value>,
        required: Bool = false,
        _ summary: String, _ details: String = ""
    ) {
        self.init(
            key: key, isRequired: required,
            read: { reader, entry, target in
                if let value = reader.value(entry, type) { target[keyPath: path] = value }
            },
            rows: { target in
                [
                    OptionRow(
                        keys: [key], type: type.name, isRequired: required,
                        value: type.text(target[keyPath: path]), summary: summary,
                        details: details)
                ]
            })
    }

    /// A key whose value needs the reader: a list with an error for each element, or a mapping of the plugin.
    init(
        _ key: String, type: String, text: @escaping @Sendable (Target) -> String, required: Bool = false,
        _ summary: String, _ details: String = "",
        read: @escaping @Sendable (inout ConfigurationReader, YAMLEntry, inout Target) -> Void
    ) {
        self.init(key: key, isRequired: required, read: read) { target in
            [
                OptionRow(
                    keys: [key], type: type, isRequired: required, value: text(target), summary: summary,
                    details: details)
            ]
        }
    }

    /// A key with a mapping of further options.
    init<Part>(_ key: String, _ path: WritableKeyPath<Target, Part> & Sendable, _ section: OptionSection<Part>) {
        self.init(
            key: key,
            read: { reader, entry, target in
                _ = reader.section(entry.value, section, into: &target[keyPath: path])
            },
            rows: { target in
                section.options.flatMap { $0.rows(target[keyPath: path]) }.map { $0.under(key) }
            })
    }

    /// Returns the option for a type that has the target as a property.
    func at<Whole>(_ path: WritableKeyPath<Whole, Target> & Sendable) -> ConfigurationOption<Whole> {
        let (read, rows) = (read, rows)
        return ConfigurationOption<Whole>(
            key: key, isRequired: isRequired,
            read: { reader, entry, whole in read(&reader, entry, &whole[keyPath: path]) },
            rows: { rows($0[keyPath: path]) })
    }
}

/// The options of a mapping.
struct OptionSection<Target>: Sendable {
    /// Names the mapping in messages: "a mapping with NAME".
    let name: String
    let options: [ConfigurationOption<Target>]
    /// Keys that are valid in another section, with the end of the message "it belongs …".
    let elsewhere: [String: String]
    /// Checks rules about several options, after all have been read.
    let check: @Sendable (inout ConfigurationReader, ConfigurationReader.Entries, inout Target) -> Void

    init(
        _ name: String, _ options: [ConfigurationOption<Target>], elsewhere: [String: String] = [:],
        check: @escaping @Sendable (inout ConfigurationReader, ConfigurationReader.Entries, inout Target) -> Void = {
            _, _, _ in
        }
    ) {
        self.name = name
        self.options = options
        self.elsewhere = elsewhere
        self.check = check
    }

    var keys: [String] { options.map(\.key) }
}

/// An option with a value. In the reference, this is the default.
package struct OptionRow: Sendable, Hashable {
    /// The keys from the section's own to the option's: `["limits", "buffer"]`.
    package var keys: [String]
    /// The type and the bounds of the value.
    package var type: String
    package var isRequired: Bool
    /// The value in the notation of the file; `none` if there is none.
    package var value: String
    /// A short phrase, without a full stop.
    package var summary: String
    /// Further sentences; may be empty.
    package var details: String

    /// Returns the row of the same option in a section with this key.
    func under(_ key: String) -> OptionRow {
        var row = self
        row.keys.insert(key, at: 0)
        return row
    }
}

extension HostConfiguration.Node {
    /// Returns the options with another value than in `previous`, in the order of the reference.
    package func changes(since previous: Self) -> [(key: String, value: String, previous: String)] {
        let options = ConfigurationSchema.node.options
        return zip(options.flatMap { $0.rows(self) }, options.flatMap { $0.rows(previous) })
            .filter { $0.value != $1.value }
            .map { ($0.keys.joined(separator: "."), $0.value, $1.value) }
    }
}

/// The keys of the configuration file, for its reference.
package enum ConfigurationReference {
    /// The options of each table of `docs/configuration.md`, by the name of the table.
    package static var tables: [(name: String, rows: [OptionRow])] {
        let nowhere = ConfigurationLocation(file: "")
        let empty = PluginConfiguration(YAMLNode(.mapping([]), at: nowhere), folder: "/")
        let file = ConfiguredFile(path: "", location: nowhere)
        let serverTLS = ServerTLSOptions(certificate: file, key: file)
        let plugin = HostConfiguration.Plugin(
            name: "", path: "", configuration: empty, location: nowhere, pathLocation: nowhere)
        let route = HostConfiguration.Route(
            vAddr: "", plugin: "", configuration: empty, options: RouteOptions(), location: nowhere,
            vAddrLocation: nowhere)
        return [
            ("node", ConfigurationSchema.node.options.flatMap { $0.rows(HostConfiguration.Node()) }),
            ("tls of a listener", ConfigurationSchema.serverTLS.options.flatMap { $0.rows(serverTLS) }),
            ("tls of a join", ConfigurationSchema.clientTLS.options.flatMap { $0.rows(ClientTLSOptions()) }),
            ("access", ConfigurationSchema.access.options.flatMap { $0.rows(AccessOptions()) }),
            ("identities", ConfigurationSchema.matcher.options.flatMap { $0.rows(AccessOptions.Matcher()) }),
            ("announce", ConfigurationSchema.announce.options.flatMap { $0.rows(AccessOptions.Announce()) }),
            ("log", ConfigurationSchema.log.options.flatMap { $0.rows(HostConfiguration.Log()) }),
            ("defaults", ConfigurationSchema.routeOptions.flatMap { $0.rows(RouteOptions()) }),
            (
                "plugins",
                ConfigurationSchema.pluginFile.flatMap { $0.rows(plugin) }
                    + ConfigurationSchema.isolation.flatMap { $0.rows(IsolationOptions()) }
            ),
            (
                "workers",
                ConfigurationSchema.workers.flatMap { $0.rows(IsolationOptions()) }
                    + ConfigurationSchema.workerLimits.rows(IsolationOptions())
            ),
            ("drop_in", ConfigurationSchema.dropIn.options.flatMap { $0.rows(DropInOptions()) }),
            (
                "drop-in files",
                ConfigurationSchema.dropInKeys.flatMap { $0.rows(ConfigurationSchema.DropInBody(plugin: plugin)) }
            ),
            ("routes", ConfigurationSchema.routeNames.flatMap { $0.rows(route) }),
        ]
    }

    /// Returns a table in Markdown.
    package static func markdown(_ rows: [OptionRow]) -> String {
        let lines = rows.map { row in
            let summary = row.summary.prefix(1).uppercased() + row.summary.dropFirst() + "."
            let meaning = row.details.isEmpty ? summary : "\(summary) \(row.details)"
            let isCode = !row.isRequired && !["none", "empty"].contains(row.value)
            let shown = row.isRequired ? "required" : isCode ? "`\(row.value)`" : row.value
            return "| `\(row.keys.joined(separator: "."))` | \(row.type) | \(shown) | \(meaning) |\n"
        }
        return "| key | type | default | meaning |\n|---|---|---|---|\n" + lines.joined()
    }
}
