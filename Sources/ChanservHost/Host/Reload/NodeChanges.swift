package import HostConfiguration

extension HostConfiguration.Node {
    /// Returns the changes that a running host cannot apply, because all links and streams depend on its node. A reload
    /// warns about them and applies the rest. Refusing the whole reload would hold back new code because of an
    /// address.
    ///
    /// - Parameter running: the `node` section at the start of the host.
    /// - Returns: each key, and one line with the value that is still in force.
    package func changesThatNeedARestart(since running: Self) -> [(key: String, warning: String)] {
        keepingTLS(of: running).changes(since: running).filter { !Self.reloadable.contains($0.key) }.map { change in
            let warning =
                "node.\(change.key) is now \(change.value) in the file, but changing it needs a restart: "
                + "it stays \(change.previous)"
            return (change.key, warning)
        }
    }

    /// Returns the keys whose new values a running host applies.
    ///
    /// - Parameter running: the values that were in force before.
    func changesTakenOver(since running: Self) -> [String] {
        keepingTLS(of: running).changes(since: running).map(\.key).filter(Self.reloadable.contains)
    }

    /// This section with the TLS options of `running` for addresses that have TLS in both: a reload applies these (see
    /// ``HostSecurity``).
    private func keepingTLS(of running: Self) -> Self {
        var node = self
        for (index, entry) in node.listen.enumerated() where entry.tls != nil {
            let old = running.listen.first { $0.address == entry.address && $0.tls != nil }
            if let old { node.listen[index].tls = old.tls }
        }
        for (index, entry) in node.join.enumerated() where entry.tls != nil {
            let old = running.join.first { $0.address == entry.address && $0.tls != nil }
            if let old { node.join[index].tls = old.tls }
        }
        return node
    }

    /// The keys that a running host applies.
    private static let reloadable: Set = ["drain"]
}
