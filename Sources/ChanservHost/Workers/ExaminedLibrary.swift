package import PluginRuntime

/// Library that was read and checked, for worker processes to load. None of its code has run in this process.
package final class ExaminedLibrary: Sendable {
    /// Path of the file it was read from.
    let path: String
    let digest: PluginDigest
    /// The needed files outside of the system folders.
    let needed: [NeededLibrary]
    /// Size in bytes.
    let size: Int
    /// Bytes of the library.
    let image: SealedFile

    /// - Throws: ``ProcessError`` if the system has no memory for the bytes.
    package init(_ file: PluginFile) throws(ProcessError) {
        path = file.path
        digest = file.digest
        needed = file.needed
        size = file.bytes.count
        image = try SealedFile(file.bytes, name: String(file.path.split(separator: "/").last ?? "plugin"))
    }
}
