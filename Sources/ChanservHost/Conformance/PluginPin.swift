internal import Glibc

/// A library's digest for the configuration, and what else would keep the host from loading it as it lies there.
package struct PluginPin: Sendable {
    package let digest: PluginDigest
    /// Why the host would refuse the file or its folder, a sentence each.
    package let refusals: [String]

    /// Reads a library without loading it.
    ///
    /// - Throws: ``PluginLoadError`` where it is no library.
    package init(path: String, permissions: PluginPermissions = .current) throws(PluginLoadError) {
        // What it pins is its bytes, wherever they are going to stand.
        let file = try PluginFile(path: path, permissions: nil)
        digest = file.digest
        let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        refusals = [(folder, "its folder "), (path, "")].compactMap { name, what in
            var status = stat()
            guard stat(name, &status) == 0 else { return "\(what)\(name) cannot be examined: \(systemMessage(errno))" }
            return permissions.problem(with: name, owner: status.st_uid, mode: status.st_mode).map { what + $0 }
        }
    }
}
