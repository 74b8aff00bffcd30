/// The keys of the configuration file.
enum ConfigurationSchema {}

extension ConfigurationSchema {
    /// The section `node`.
    static let node = OptionSection<HostConfiguration.Node>(
        "the node",
        [
            ConfigurationOption(
                "name", \.name, ValueType.nodeName.optional, "name of the host in the mesh, the status and the logs",
                "Shown beside the host's id, which is new at each start. Nodes with a direct link learn it. Names need "
                    + "not be unique."),
            ConfigurationOption(
                "listen", type: "address, mapping, or a list", text: { text($0.listen.map(text)) },
                "one address or a list: [127.0.0.1:5555, \"[::1]:5555\"]; port 0 selects a free port",
                "The host accepts links there. The log line `ready` has the selected port. A mapping has `address` and "
                    + "`tls` ([TLS](#tls)) or, for a Unix socket, `mode` (the permissions of its file, 0600 by default).",
                read: { reader, entry, node in
                    node.listen = reader.listeners(entry.value)
                    if case .list(let elements) = entry.value.content, elements.isEmpty {
                        reader.report("expected at least one address to listen at", at: entry.value.location)
                    }
                }),
            ConfigurationOption(
                "join", type: "address, mapping, or a list", text: { text($0.join.map(text)) },
                "nodes to link with, one or a list: router-1:10000",
                "The host joins them again after a link is lost. A mapping has `address` and `tls` ([TLS](#tls)).",
                read: { reader, entry, node in node.join = reader.joins(entry.value) }),
            ConfigurationOption(
                "role", \.role, .oneOf(("a", "role")),
                "what the node does for other nodes: client, server, peer or router",
                "See below."),
            ConfigurationOption(
                "environment", \.environment, ValueType.serviceName("an environment such as staging").optional,
                "suffix of all virtual addresses: files.staging"),
            ConfigurationOption(
                "drain", \.drain, .duration, "time for open requests after SIGTERM or SIGINT",
                "Then they are cancelled. `0` cancels at once, and a second signal exits at once. A service manager "
                    + "must wait 30 s more than this: plugin calls have up to 10 s to return, plugins up to 10 s to be "
                    + "destroyed (or their processes are killed), and links up to 5 s to close."),
            ConfigurationOption(
                "control", \.control, ValueType.socketPath.optional,
                "socket for `chanserv status`, `reload` and others",
                "Also for `requests`, `links`, `cancel`, `drain` and `enable` ([control.md](control.md)). Only the host's user "
                    + "and root can use it."),
            ConfigurationOption("limits", \.limits, nodeLimits),
        ],
        check: { _, entries, node in node.controlLocation = entries["control"]?.value.location })

    private static func text(_ entries: [String]) -> String {
        entries.isEmpty ? "none" : entries.joined(separator: ", ")
    }

    private static let nodeLimits = OptionSection<HostConfiguration.Node.Limits>(
        "the node's limits",
        [
            ConfigurationOption("links", \.links, .integer(1...(1 << 24)), "maximum links to other nodes"),
            ConfigurationOption(
                "streams", \.streams, .integer(1...(1 << 24)), "maximum streams of a link",
                "A request is one stream, and each of its sources is another."),
            ConfigurationOption(
                "half_open", \.halfOpen, .integer(1...(1 << 24)),
                "maximum accepted dials of a link that the dialer has not confirmed"),
            ConfigurationOption(
                "services", \.services, .integer(1...(1 << 24)), "maximum services that are announced over a link"),
            // A smaller buffer could not hold the windows of a few streams.
            ConfigurationOption(
                "buffer", \.buffer, .size((1 << 20)...(1 << 40)),
                "bytes of a link that are received and not read, or are to be forwarded",
                "At most `total_buffer`; if only `total_buffer` is set and is smaller than the default, it is used."),
            ConfigurationOption(
                "total_buffer", \.totalBuffer, .size((1 << 20)...(1 << 40)), "the same for all links together"),
            // One read takes up to 1 MiB. With a lower limit, the pause after it would delay PING for too long.
            ConfigurationOption(
                "bytes_per_second", \.bytesPerSecond, ValueType.size((1 << 18)...(1 << 40)).orNone,
                "bytes per second that are received from a link, or none",
                "The host reads more slowly then, and the peer waits."),
        ],
        check: { reader, entries, limits in
            guard limits.buffer > limits.totalBuffer else { return }
            guard let entry = entries["buffer"] else {
                // Only `total_buffer` is set and smaller than the default of `buffer`: one link may use all of it.
                limits.buffer = limits.totalBuffer
                return
            }
            reader.report(
                "buffer, the limit of one link (\(ValueGrammar.text(bytes: limits.buffer))), is larger than "
                    + "total_buffer, the limit of all links (\(ValueGrammar.text(bytes: limits.totalBuffer)))",
                at: entry.value.location)
        })
}

extension ValueType<String> {
    /// The name of a node.
    fileprivate static let nodeName = ValueType(
        "1 to \(NodeName.maximumLength) letters, digits, `-`, `_` and `.`",
        parse: { (node, _) throws(ConfigurationError) in
            let name = try node.string("a name such as host-7")
            if let problem = NodeName.problem(with: name) { throw ConfigurationError(problem, at: node.location) }
            return name
        }, text: { $0 })
}
