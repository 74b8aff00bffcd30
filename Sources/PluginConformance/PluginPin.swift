internal import Glibc
package import HostConfiguration
package import PluginRuntime

/// The digest of a library for the configuration, and the reasons why the host would not load the file from its current
/// path.
package struct PluginPin: Sendable {
    package let digest: PluginDigest
    /// The reasons why the host would refuse the file or its folder, a sentence each.
    package let refusals: [String]

    /// Reads a library without loading it.
    ///
    /// - Throws: ``PluginLoadError`` if the file is not a library.
    package init(path: String, permissions: PluginPermissions = .current) throws(PluginLoadError) {
        // Permissions do not matter here: the digest is of the bytes, which may be copied elsewhere.
        let file = try PluginFile(path: path, permissions: nil)
        digest = file.digest
        let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        refusals = [(folder, "its folder "), (path, "")].compactMap { name, what in
            var status = stat()
            guard stat(name.systemString, &status) == 0 else {
                return "\(what)\(name) cannot be examined: \(systemMessage(errno))"
            }
            return permissions.problem(with: name, owner: status.st_uid, mode: status.st_mode).map { what + $0 }
        }
    }
}
