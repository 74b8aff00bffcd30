extension HostConfiguration.Node {
    /// What of this, the new configuration, a running host cannot take over: its node is what all links and streams
    /// hang on. A reload warns about it and does the rest; to refuse the whole would keep new code from being served
    /// because of an address.
    ///
    /// - Parameter running: what the host was started with.
    /// - Returns: one line for each key, saying what is still in force.
    func changesThatNeedARestart(since running: Self) -> [String] {
        var changes: [String] = []
        if listen != running.listen {
            changes.append(Self.warning("listen", Self.list(listen), stays: Self.list(running.listen)))
        }
        if join != running.join {
            changes.append(Self.warning("join", Self.list(join), stays: Self.list(running.join)))
        }
        if environment != running.environment {
            changes.append(
                Self.warning("environment", environment ?? "none", stays: running.environment ?? "none"))
        }
        if role != running.role {
            changes.append(Self.warning("role", role.rawValue, stays: running.role.rawValue))
        }
        if control != running.control {
            changes.append(Self.warning("control", control ?? "none", stays: running.control ?? "none"))
        }
        for (key, path, text) in Self.limits where limits[keyPath: path] != running.limits[keyPath: path] {
            changes.append(
                Self.warning(
                    "limits.\(key)", text(limits[keyPath: path]), stays: text(running.limits[keyPath: path])))
        }
        return changes
    }

    /// What of this a running host takes over: the keys.
    ///
    /// - Parameter running: what was in force before.
    func changesTakenOver(since running: Self) -> [String] {
        drain == running.drain ? [] : ["drain"]
    }

    private static let limits: [(String, KeyPath<Limits, Int> & Sendable, @Sendable (Int) -> String)] = [
        ("links", \.links, { "\($0)" }), ("streams", \.streams, { "\($0)" }), ("half_open", \.halfOpen, { "\($0)" }),
        ("services", \.services, { "\($0)" }), ("buffer", \.buffer, { ValueGrammar.text(bytes: $0) }),
        ("total_buffer", \.totalBuffer, { ValueGrammar.text(bytes: $0) }),
    ]

    private static func warning(_ key: String, _ new: String, stays running: String) -> String {
        "node.\(key) is now \(new) in the file, but changing it needs a restart: it stays \(running)"
    }

    private static func list(_ addresses: [HostAddress]) -> String {
        addresses.isEmpty ? "none" : addresses.map(\.description).joined(separator: ", ")
    }
}
