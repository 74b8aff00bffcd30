extension ConfigurationReader {
    /// Keys of `defaults` and of a plugin that set where and how its instances run.
    static let isolationKeys = [
        "isolation", "processes", "call_budget", "kill_after", "heartbeat_timeout", "startup", "preflight", "nice",
        "environment",
    ]

    /// Returns the options in `entries`, the keys of a plugin, with `inherited` for missing keys.
    mutating func isolation(_ entries: Entries, over inherited: IsolationOptions) -> IsolationOptions {
        var options = defaultIsolation(entries, over: inherited)
        if let limits = entries["limits"] { readLimits(limits.value, into: &options.limits) }
        checkIsProcess(options, entries)
        return options
    }

    /// Returns the options in `entries`, the keys of `defaults`, with `inherited` for missing keys. Unlike in a plugin,
    /// keys that need `isolation: process` are no error here: they apply to the plugins that run in processes.
    mutating func defaultIsolation(_ entries: Entries, over inherited: IsolationOptions) -> IsolationOptions {
        var options = inherited
        let isolation = value("isolation", in: entries) { (node) throws(ConfigurationError) in try node.isolation() }
        if let isolation { options.isolation = isolation }
        if let processes = integer("processes", in: entries, 1...256) { options.processes = processes }
        let callBudget = value("call_budget", in: entries) { (node) throws(ConfigurationError) in
            try node.positiveDuration("budget")
        }
        if let callBudget { options.callBudget = callBudget }
        if let killAfter = optionalDuration("kill_after", in: entries) { options.killAfter = killAfter }
        let heartbeatTimeout = value("heartbeat_timeout", in: entries) { (node) throws(ConfigurationError) in
            try node.heartbeatTimeout()
        }
        if let heartbeatTimeout { options.heartbeatTimeout = heartbeatTimeout }
        let startup = value("startup", in: entries) { (node) throws(ConfigurationError) in
            try node.positiveDuration("time to start")
        }
        if let startup { options.startup = startup }
        if let preflight = value("preflight", in: entries, { (node) throws(ConfigurationError) in try node.boolean() })
        {
            options.preflight = preflight
        }
        if let nice = integer("nice", in: entries, 0...19) { options.nice = nice }
        if let names = value("environment", in: entries, { (node) throws(ConfigurationError) in try node.names() }) {
            options.environment = names
        }
        return options
    }

    private mutating func readLimits(_ node: YAMLNode, into limits: inout IsolationOptions.Limits) {
        let entries = section(node, "the limits of a process", known: ["address_space", "cpu", "open_files"])
        let addressSpace = value("address_space", in: entries) { (node) throws(ConfigurationError) in
            try node.size(in: (512 << 20)...(1 << 50))
        }
        if let addressSpace { limits.addressSpace = addressSpace }
        let cpu = value("cpu", in: entries) { (node) throws(ConfigurationError) in try node.wholeSeconds() }
        if let cpu { limits.cpu = cpu }
        if let files = integer("open_files", in: entries, 64...1_000_000) { limits.openFiles = files }
    }

    /// Reports keys that need `isolation: process` in a plugin that runs in the host. Ignoring them would suggest a
    /// protection that does not exist.
    private mutating func checkIsProcess(_ options: IsolationOptions, _ entries: Entries) {
        guard options.isolation == .host else { return }
        for entry in ["processes", "kill_after", "heartbeat_timeout", "nice", "environment", "limits"].compactMap({
            entries[$0]
        }) {
            report("\(quoted(entry.key)) needs 'isolation: process'", at: entry.keyLocation)
        }
    }
}

extension YAMLNode {
    fileprivate func isolation() throws(ConfigurationError) -> IsolationOptions.Isolation {
        let expected = "host or process"
        guard case .scalar(let scalar) = content, scalar.value == .string else { throw mismatch(expected) }
        guard let isolation = IsolationOptions.Isolation(rawValue: scalar.text) else {
            throw ConfigurationError("expected \(expected), found \(scalar.quotedText)", at: location)
        }
        return isolation
    }

    /// Returns the heartbeat timeout: `nil` for `none`, otherwise at least ``IsolationOptions/minimumHeartbeatTimeout``.
    fileprivate func heartbeatTimeout() throws(ConfigurationError) -> Duration? {
        if isNone { return nil }
        let duration = try positiveDuration("timeout", "a duration such as 30s, or none")
        guard duration >= IsolationOptions.minimumHeartbeatTimeout else {
            throw ConfigurationError(
                "the timeout must be at least \(ValueGrammar.text(IsolationOptions.minimumHeartbeatTimeout)): "
                    + "processes report once a second",
                at: location)
        }
        return duration
    }

    /// Returns a list of names of environment variables.
    fileprivate func names() throws(ConfigurationError) -> [String] {
        var names: [String] = []
        for element in try list("a list of names of environment variables") {
            let name = try element.string()
            guard !name.isEmpty, !name.utf8.contains(where: { $0 == UInt8(ascii: "=") || $0 == 0 }) else {
                throw ConfigurationError(
                    "\(quoted(name)) is not a name of an environment variable", at: element.location)
            }
            names.append(name)
        }
        return names
    }

    /// Returns a duration in seconds. The kernel limits processor time in whole seconds.
    fileprivate func wholeSeconds() throws(ConfigurationError) -> Int {
        let duration = try positiveDuration("processor time")
        guard duration.components.attoseconds == 0 else {
            throw ConfigurationError("the processor time must be a whole number of seconds", at: location)
        }
        return Int(duration.components.seconds)
    }
}
