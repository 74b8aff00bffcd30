/// The running executable, for starting child processes.
enum OwnProgram {
    /// Path of the executable that this process runs, even if an upgrade has replaced the file since.
    static let path = "/proc/self/exe"
}
