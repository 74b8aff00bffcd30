extension ConfigurationReader {
    /// The keys about where plugins run that may stand under `defaults` and in a plugin.
    static let isolationKeys = [
        "isolation", "processes", "call_budget", "kill_after", "heartbeat_timeout", "startup", "preflight", "nice",
        "environment",
    ]

    /// `inherited` with what is in the entries of a plugin over it.
    mutating func isolation(_ entries: Entries, over inherited: IsolationOptions) -> IsolationOptions {
        var options = defaultIsolation(entries, over: inherited)
        if let limits = entries["limits"] { readLimits(limits.value, into: &options.limits) }
        checkIsProcess(options, entries)
        return options
    }

    /// `inherited` with what is in the entries of `defaults` over it, which counts where it has a meaning.
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

    /// What can only be done to a process is a mistake where there is none, not a wish that is passed over.
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
            throw ConfigurationError("expected \(expected), found \(quoted(scalar.text))", at: location)
        }
        return isolation
    }

    /// Long enough for some heartbeats, or none.
    fileprivate func heartbeatTimeout() throws(ConfigurationError) -> Duration? {
        if saysNone { return nil }
        let duration = try positiveDuration("timeout", "a duration such as 30s, or none")
        guard duration >= HeartbeatWatch.shortestTimeout else {
            throw ConfigurationError(
                "processes report once a second: a timeout is at least "
                    + ValueGrammar.text(HeartbeatWatch.shortestTimeout),
                at: location)
        }
        return duration
    }

    /// Names of environment variables.
    fileprivate func names() throws(ConfigurationError) -> [String] {
        var names: [String] = []
        for element in try list("a list of names of environment variables") {
            let name = try element.string()
            guard !name.isEmpty, !name.utf8.contains(where: { $0 == UInt8(ascii: "=") || $0 == 0 }) else {
                throw ConfigurationError("\(quoted(name)) is no name of an environment variable", at: element.location)
            }
            names.append(name)
        }
        return names
    }

    /// A duration in whole seconds, which is what the kernel counts processor time in.
    fileprivate func wholeSeconds() throws(ConfigurationError) -> Int {
        let duration = try positiveDuration("processor time")
        guard duration.components.attoseconds == 0 else {
            throw ConfigurationError("processor time is counted in whole seconds", at: location)
        }
        return Int(duration.components.seconds)
    }
}
