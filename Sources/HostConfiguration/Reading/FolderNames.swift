internal import Glibc

/// Maximum names that are read from a folder. It bounds what a reload reads.
private let longestFolder = 4_096

/// Returns the names of the entries of a folder except `.` and `..`, in the order of their bytes. Blocks on the file
/// system.
///
/// - Parameter mustBeSafe: whether a folder that other users can write to is an error. Off by default.
/// - Throws: ``FileProblem`` if the folder cannot be read, has more than 4,096 entries, or is not safe. The caller adds
///   the path.
package func namesOfFolder(_ folder: String, mustBeSafe: Bool = false) throws(FileProblem) -> [String] {
    guard let handle = opendir(folder.systemString) else { throw FileProblem(errno: errno) }
    defer { closedir(handle) }
    if mustBeSafe {
        var status = stat()
        guard fstat(dirfd(handle), &status) == 0 else { throw FileProblem(errno: errno) }
        let problem = PluginPermissions.current.problem(with: folder, owner: status.st_uid, mode: status.st_mode)
        if let problem { throw FileProblem("is not safe: \(problem)") }
    }
    var names: [String] = []
    while true {
        // The end of the folder and an error differ only in errno. An error must not look like removed files.
        errno = 0
        guard let entry = readdir(handle) else {
            guard errno == 0 else { throw FileProblem(errno: errno) }
            break
        }
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        guard name != ".", name != ".." else { continue }
        guard names.count < longestFolder else { throw FileProblem("has more than \(longestFolder) files") }
        names.append(name)
    }
    return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
}
