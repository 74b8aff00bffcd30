/// Library that is loaded and stays loaded until the process ends.
package final class PluginLibrary: Sendable {
    /// Path of the file it was read from.
    package let path: String
    /// SHA-256 of the loaded bytes.
    package let digest: PluginDigest
    /// Size of the loaded file in bytes.
    package let size: Int
    /// Name, version, flags and functions of the plugin.
    package let descriptor: PluginDescriptor

    package init(path: String, digest: PluginDigest, size: Int, descriptor: PluginDescriptor) {
        self.path = path
        self.digest = digest
        self.size = size
        self.descriptor = descriptor
    }
}
