package import HostConfiguration

extension HostConfiguration.Node {
    /// Returns the changes that a running host cannot apply, because all links and streams depend on its node. A reload
    /// warns about them and applies the rest. Refusing the whole reload would hold back new code because of an
    /// address.
    ///
    /// - Parameter running: the `node` section at the start of the host.
    /// - Returns: each key, and one line with the value that is still in force.
    package func changesThatNeedARestart(since running: Self) -> [(key: String, warning: String)] {
        var changes: [(key: String, warning: String)] = []
        if name != running.name { changes.append(Self.warning("name", name ?? "none", stays: running.name ?? "none")) }
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
        for (key, path, text) in Self.limitKeys where limits[keyPath: path] != running.limits[keyPath: path] {
            changes.append(
                Self.warning(
                    "limits.\(key)", text(limits[keyPath: path]), stays: text(running.limits[keyPath: path])))
        }
        return changes
    }

    /// Returns the keys whose new values a running host applies.
    ///
    /// - Parameter running: the values that were in force before.
    func changesTakenOver(since running: Self) -> [String] {
        drain == running.drain ? [] : ["drain"]
    }

    private static let limitKeys: [(String, KeyPath<Limits, Int> & Sendable, @Sendable (Int) -> String)] = [
        ("links", \.links, { "\($0)" }), ("streams", \.streams, { "\($0)" }), ("half_open", \.halfOpen, { "\($0)" }),
        ("services", \.services, { "\($0)" }), ("buffer", \.buffer, { ValueGrammar.text(bytes: $0) }),
        ("total_buffer", \.totalBuffer, { ValueGrammar.text(bytes: $0) }),
    ]

    private static func warning(
        _ key: String, _ new: String, stays running: String
    ) -> (key: String, warning: String) {
        let warning = "node.\(key) is now \(new) in the file, but changing it needs a restart: it stays \(running)"
        return (key, warning)
    }

    private static func list(_ addresses: [HostAddress]) -> String {
        addresses.isEmpty ? "none" : addresses.map(\.description).joined(separator: ", ")
    }
}
