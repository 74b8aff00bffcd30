extension ConfigurationSchema {
    /// An entry of `plugins`.
    static let plugin = OptionSection<HostConfiguration.Plugin>(
        "a plugin",
        pluginFile + (isolation + workers + [workerLimits]).map { $0.at(\.isolation) },
        check: { reader, entries, plugin in
            // Ignoring a key that needs a process would suggest a protection that does not exist.
            guard plugin.isolation.isolation == .host else { return }
            for entry in (workers + [workerLimits]).compactMap({ entries[$0.key] }) {
                reader.report("\(quoted(entry.key)) needs 'isolation: process'", at: entry.keyLocation)
            }
        })

    /// The section `defaults`. Here, keys that need `isolation: process` apply to the plugins that run in processes.
    static let defaults = OptionSection<(routes: RouteOptions, plugins: IsolationOptions)>(
        "the defaults", routeOptions.map { $0.at(\.routes) } + (isolation + workers).map { $0.at(\.plugins) })

    /// The keys of a plugin that describe its library.
    static let pluginFile: [ConfigurationOption<HostConfiguration.Plugin>] = [
        ConfigurationOption(
            "path", \.path, .path, required: true, "the library",
            "A regular file, not a symbolic link. Other users must not be able to write to it or to its folder."),
        ConfigurationOption(
            "sha256", \.sha256, ValueType.sha256.optional, "refuse any other file; 64 hexadecimal digits",
            "`chanserv plugin pin FILE` prints the line."),
        ConfigurationOption(
            "threads", \.threads, .integer(1...1_024), "number of threads for a plugin that blocks",
            "For each instance. Other libraries share the host's plugin threads."),
        ConfigurationOption(
            "inline", \.allowsInline, .boolean,
            "`false`: never call the plugin on an event loop, even if it allows that",
            "A plugin allows it with `CHANSERV_PLUGIN_INLINE`. A change replaces the instance."),
        ConfigurationOption(
            "config", type: "mapping", text: { $0.configuration.json == "{}" ? "empty" : $0.configuration.json },
            "the plugin's own keys", "Numbers must be finite.",
            read: { reader, entry, plugin in
                plugin.configuration = PluginConfiguration(
                    reader.pluginConfiguration(entry.value), folder: reader.folder)
            }),
    ]

    /// The keys of isolation for both kinds.
    static let isolation: [ConfigurationOption<IsolationOptions>] = [
        ConfigurationOption(
            "isolation", \.isolation, .oneOf(("an", "isolation")),
            "`process`: workers run the plugin; a crash ends the open requests in that process"),
        ConfigurationOption(
            "call_budget", \.callBudget, .positiveDuration("budget"), "a call that takes longer is logged and counted",
            "Does not apply to libraries that block."),
        ConfigurationOption(
            "startup", \.startup, .positiveDuration("time to start"),
            "time to load the library and to create its instance in a process", "Also the time for the preflight."),
        ConfigurationOption(
            "preflight", \.preflight, .boolean, "try a changed library or `config` in a short-lived process first"),
    ]

    /// The keys of isolation for workers.
    static let workers: [ConfigurationOption<IsolationOptions>] = [
        ConfigurationOption(
            "processes", \.processes, .integer(1...256), "worker processes per instance, which share the requests",
            "A request goes to the one with the fewest open requests."),
        ConfigurationOption(
            "kill_after", \.killAfter, .timeout, "a call that takes longer has its process killed",
            "Also in libraries that block. Checked once a second."),
        ConfigurationOption(
            "heartbeat_timeout", \.heartbeatTimeout,
            ValueType.positiveDuration(
                "timeout", minimum: (IsolationOptions.minimumHeartbeatTimeout, "processes report once a second"),
                "a duration such as 30s, or none"
            ).orNone, "a process that reports nothing for this time is killed; at least 4s, or none",
            "Processes report once a second, whatever the plugin does. So one that does not report is stopped, or has "
                + "no thread that runs. `none` is for debugging with breakpoints."),
        ConfigurationOption("nice", \.nice, .integer(0...19), "added to the niceness of the host, 0 to 19"),
        ConfigurationOption(
            "environment", \.environment, .variableNames, "environment variables that the processes inherit",
            "They get no others. Not related to `node.environment`."),
    ]

    /// The key `limits` of a plugin, which `defaults` does not have.
    static let workerLimits = ConfigurationOption("limits", \IsolationOptions.limits, processLimits)

    static let processLimits = OptionSection<IsolationOptions.Limits>(
        "the limits of a process",
        [
            ConfigurationOption(
                "address_space", \.addressSpace, ValueType.size((512 << 20)...(1 << 50)).optional,
                "bytes of address space; allocations beyond it fail"),
            ConfigurationOption(
                "cpu", \.cpu, ValueType.wholeSeconds.optional,
                "processor time, after which the process is killed and restarted"),
            ConfigurationOption(
                "open_files", \.openFiles, ValueType.integer(64...1_000_000).optional, "maximum open descriptors"),
        ])
}

extension ValueType<String> {
    /// 64 hexadecimal digits in lower case. Reads the text of the scalar, because YAML takes a digest of decimal digits
    /// for an integer.
    static let sha256 = ValueType(
        "64 hexadecimal digits",
        parse: { (node, _) throws(ConfigurationError) in
            let expected = "a SHA-256 of 64 hexadecimal digits"
            guard case .scalar(let scalar) = node.content, scalar.value != .null else { throw node.mismatch(expected) }
            guard scalar.text.utf8.count == 64, scalar.text.allSatisfy({ $0.isASCII && $0.isHexDigit }) else {
                throw ConfigurationError("expected \(expected), found \(scalar.quotedText)", at: node.location)
            }
            return scalar.text.lowercased()
        }, text: { $0 })
}
