internal import Glibc
internal import HostConfiguration

/// The folders and names that decide what a drop-in folder contains: the folder and, for each symbolic link on the way
/// to a file, the folder of the link. Kubernetes replaces files by renaming such a link (`..data`).
struct WatchedPaths: Hashable, Sendable {
    /// The names to watch in each folder.
    private(set) var names: [String: Set<String>] = [:]
    /// The drop-in folder. All names of drop-ins in it are watched.
    let folder: String

    /// Maximum links on the way to one file, as in the kernel.
    private static let maxLinks = 40

    /// Reads the folder. Blocks on the file system.
    init(folder: String) {
        self.folder = folder
        names[folder] = []
        // The folder itself may be a link, and may be removed and made again.
        addLinks(on: folder)
        // If the folder cannot be read, the host reports that when it reads the drop-ins.
        for name in (try? namesOfFolder(folder)) ?? [] {
            if DropInNames.isConsidered(name), Self.target(of: "\(folder)/\(name)") != nil {
                addLinks(on: "\(folder)/\(name)")
            }
        }
    }

    /// Whether a change of this name in this folder can change the drop-ins.
    func isWatched(_ name: String, in folder: String) -> Bool {
        if names[folder]?.contains(name) == true { return true }
        return folder == self.folder && DropInNames.isConsidered(name)
    }

    /// Adds each symbolic link on a path, and the file at its end.
    private mutating func addLinks(on path: String) {
        var rest = path.split(separator: "/").map(String.init)
        var folder = ""
        var links = 0
        while !rest.isEmpty {
            let name = rest.removeFirst()
            if name == "." { continue }
            if name == ".." {
                folder = folder.lastIndex(of: "/").map { String(folder[..<$0]) } ?? ""
                continue
            }
            let current = "\(folder)/\(name)"
            if let target = Self.target(of: current) {
                links += 1
                guard links <= Self.maxLinks else { return }
                names[folder.isEmpty ? "/" : folder, default: []].insert(name)
                if target.hasPrefix("/") { folder = "" }
                rest = target.split(separator: "/").map(String.init) + rest
            } else {
                if rest.isEmpty { names[folder.isEmpty ? "/" : folder, default: []].insert(name) }
                folder = current
            }
        }
    }

    /// Returns the target of a symbolic link; `nil` if the path is something else.
    private static func target(of path: String) -> String? {
        var bytes = [UInt8](repeating: 0, count: 4_096)
        let count = bytes.withUnsafeMutableBytes { readlink(path.systemString, $0.baseAddress!, $0.count) }
        // A target that fills the buffer may have been cut.
        guard count > 0, count < bytes.count else { return nil }
        return String(decoding: bytes[..<count], as: UTF8.self)
    }
}
