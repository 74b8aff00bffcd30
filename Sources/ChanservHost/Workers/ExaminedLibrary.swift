/// A library that was read and checked, and of which no code has run here: for processes to load.
final class ExaminedLibrary: Sendable {
    /// The file it was read from.
    let path: String
    let digest: PluginDigest
    /// In bytes.
    let size: Int
    /// What was read.
    let image: SealedFile

    /// - Throws: ``ProcessError`` where there is no memory for it.
    init(_ file: PluginFile) throws(ProcessError) {
        path = file.path
        digest = file.digest
        size = file.bytes.count
        image = try SealedFile(file.bytes, name: String(file.path.split(separator: "/").last ?? "plugin"))
    }
}
