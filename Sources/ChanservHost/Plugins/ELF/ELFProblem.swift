/// Why a file cannot be given to the dynamic linker.
package enum ELFProblem: Error, Hashable {
    /// It is something else altogether: no ELF file, for another machine, an object file…
    case notALibrary(String)
    /// It ends before what it describes.
    case truncated
    /// It is a library whose tables contradict themselves.
    case damaged(String)
}
