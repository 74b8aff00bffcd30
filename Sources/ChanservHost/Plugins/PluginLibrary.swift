/// A library that is loaded, and stays so until the process ends.
package final class PluginLibrary: Sendable {
    /// The file it was read from.
    package let path: String
    /// The SHA-256 of what was loaded.
    package let digest: PluginDigest
    /// The size of what was loaded, in bytes.
    package let size: Int
    /// Name, version, flags, functions.
    package let descriptor: PluginDescriptor

    init(path: String, digest: PluginDigest, size: Int, descriptor: PluginDescriptor) {
        self.path = path
        self.digest = digest
        self.size = size
        self.descriptor = descriptor
    }
}
