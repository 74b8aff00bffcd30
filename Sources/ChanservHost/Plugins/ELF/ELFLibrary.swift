/// A shared library as its file describes it, read without running or mapping any of it.
package struct ELFLibrary: Sendable {
    /// The libraries it needs and where it looks for them, and its own name.
    package let dynamic: ELFDynamic
    /// What is said of the threads' stacks.
    package let stack: ELFSegments.Stack
    private let file: ELFBytes
    private let header: ELFHeader

    /// - Throws: ``ELFProblem`` when the dynamic linker cannot be given the file.
    package init(_ bytes: [UInt8]) throws(ELFProblem) {
        file = ELFBytes(bytes)
        header = try ELFHeader(file)
        let segments = try ELFSegments(file, header.programHeaders)
        dynamic = try ELFDynamic(file, segments)
        stack = segments.stack
    }

    /// What became of the one function a plugin exports. Looks through all symbols where it is not exported.
    package var entry: ELFEntry { ELFEntry(file, header, dynamic) }
}
