/// This program, for processes of its own.
enum OwnProgram {
    /// The file that runs, whatever has become of its name since: an upgrade may have replaced it.
    static let path = "/proc/self/exe"
}
