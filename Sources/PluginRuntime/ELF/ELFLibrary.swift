/// Description of a shared library, read from its file without mapping or running it.
package struct ELFLibrary: Sendable {
    /// The needed libraries, the paths where it searches for them, and its own name.
    package let dynamic: ELFDynamic
    /// Requirement for the stacks of threads.
    package let stack: ELFSegments.Stack
    private let file: ELFBytes
    private let header: ELFHeader

    /// - Throws: ``ELFProblem`` if the file cannot be passed to the dynamic linker.
    package init(_ bytes: [UInt8]) throws(ELFProblem) {
        file = ELFBytes(bytes)
        header = try ELFHeader(file)
        let segments = try ELFSegments(file, header.programHeaders)
        dynamic = try ELFDynamic(file, segments)
        stack = segments.stack
    }

    /// SHA-256 of the file.
    package var digest: PluginDigest { file.digest }

    /// State of the entry function. If it is not exported, this searches all symbols for the reason.
    package var entry: ELFEntry { ELFEntry(file, header, dynamic) }
}
