/// Reason why a file cannot be passed to the dynamic linker.
package enum ELFProblem: Error, Hashable {
    /// The file is of another kind: no ELF file, an object file, a library for another machine.
    case notALibrary(String)
    /// The file ends before the data that it describes.
    case truncated
    /// The file is a library with inconsistent tables.
    case damaged(String)
}
