import Glibc
import NIOConcurrencyHelpers
import NIOCore

/// The folder of `--save`: each source grows as `NAME.partial` and gets its name when it is complete, so that a file
/// that looks whole is whole.
///
/// No name a server sends leads out of the folder: paths are walked one component at a time without following symbolic
/// links. No file stays open between writes, so that any number of sources can be saved at once.
final class SaveFolder: Sendable {
    private let root: Int32
    /// The names given out in this run, complete and partial.
    private let taken = NIOLockedValueBox<Set<SavePath>>([])

    /// Opens the folder, creating it (and what is above it) where there is none.
    init(path: String) throws(SystemError) {
        var prefix = ""
        for part in path.split(separator: "/") {
            prefix += prefix.isEmpty && !path.hasPrefix("/") ? "\(part)" : "/\(part)"
            if mkdir(prefix, 0o777) != 0 && errno != EEXIST { throw SystemError("cannot create '\(prefix)'") }
        }
        root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if root < 0 { throw SystemError("cannot open the folder '\(path)'") }
    }

    deinit { close(root) }

    /// Creates the file of a source, empty. Two sources of the same name get different files.
    func create(header: ByteBuffer, source: Int) throws(SystemError) -> SavePath {
        let wanted = SavePath(header: header, source: source)
        let path = taken.withLockedValue { taken in
            var path = wanted
            var attempt = 0
            while taken.contains(path) || taken.contains(path.partial) {
                path = attempt == 0 ? SavePath(source: source) : SavePath(untrusted: "source-\(source)-\(attempt)")!
                attempt += 1
            }
            taken.formUnion([path, path.partial])
            return path
        }
        try inFolder(of: path, create: true) { (folder) throws(SystemError) in
            let name = path.partial.name
            // What an earlier run left goes first: the file is to be new, whatever stands there now.
            if unlinkat(folder, name, 0) != 0 && errno != ENOENT {
                throw SystemError("cannot replace '\(path.partial)'")
            }
            let file = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
            if file < 0 { throw SystemError("cannot create '\(path.partial)'") }
            close(file)
        }
        return path
    }

    /// Appends to a source's file.
    func append(_ bytes: ByteBuffer, to path: SavePath) throws(SystemError) {
        try inFolder(of: path, create: false) { (folder) throws(SystemError) in
            let file = openat(folder, path.partial.name, O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC)
            if file < 0 { throw SystemError("cannot open '\(path.partial)'") }
            defer { close(file) }
            let result = bytes.withUnsafeReadableBytes { bytes in
                Result { () throws(SystemError) in try writeAll(bytes, to: file, name: "'\(path.partial)'") }
            }
            try result.get()
        }
    }

    /// Gives the complete file its name, replacing what had it before.
    func complete(_ path: SavePath) throws(SystemError) {
        try inFolder(of: path, create: false) { (folder) throws(SystemError) in
            if renameat(folder, path.partial.name, folder, path.name) != 0 {
                throw SystemError("cannot rename '\(path.partial)' to '\(path)'")
            }
        }
    }

    /// Calls `body` with the folder that `path` is in.
    private func inFolder(
        of path: SavePath, create: Bool, body: (Int32) throws(SystemError) -> Void
    ) throws(SystemError) {
        var folder = root
        defer { if folder != root { close(folder) } }
        for (index, component) in path.components.dropLast().enumerated() {
            let shown = path.components[...index].joined(separator: "/")
            if create && mkdirat(folder, component, 0o777) != 0 && errno != EEXIST {
                throw SystemError("cannot create '\(shown)'")
            }
            let next = openat(folder, component, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            if next < 0 { throw SystemError("cannot open the folder '\(shown)'") }
            if folder != root { close(folder) }
            folder = next
        }
        try body(folder)
    }
}
