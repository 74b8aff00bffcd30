/// File outside of the system folders that a plugin needs, directly or indirectly.
package struct NeededLibrary: Hashable, Sendable, Codable {
    /// Name by which the library is needed.
    package var name: String
    /// Path where the dynamic linker finds it.
    package var path: String
    /// SHA-256 of the file; its size, inode and time if the host does not read it, because it is larger than 512 MiB or
    /// the host itself uses it.
    package var content: String

    package init(name: String, path: String, content: String) {
        self.name = name
        self.path = path
        self.content = content
    }
}
