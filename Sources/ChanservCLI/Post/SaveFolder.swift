import Glibc
import HostConfiguration
import NIOConcurrencyHelpers
import NIOCore

/// The folder of `--save`.
///
/// A source is written to `NAME.partial`, which is renamed to NAME when the source is complete. A file without the
/// suffix is therefore always complete.
///
/// A name from a server cannot lead out of the folder: paths are opened one component at a time without following
/// symbolic links. No file stays open between writes, so the limit of open files does not limit the number of
/// sources.
package final class SaveFolder: Sendable {
    private let root: Int32
    /// The names used in this run, complete and partial.
    private let taken = NIOLockedValueBox<Set<SavePath>>([])

    /// Opens the folder. Creates it and its parents if they do not exist.
    package init(path: String) throws(SystemError) {
        var prefix = ""
        for part in path.split(separator: "/") {
            prefix += prefix.isEmpty && !path.hasPrefix("/") ? "\(part)" : "/\(part)"
            if mkdir(prefix.systemString, 0o777) != 0 && errno != EEXIST {
                throw SystemError("cannot create '\(prefix)'")
            }
        }
        root = open(path.systemString, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if root < 0 { throw SystemError("cannot open the folder '\(path)'") }
    }

    deinit { close(root) }

    /// Creates an empty file for a source. Two sources with the same name get different files.
    package func create(header: ByteBuffer, source: Int) throws(SystemError) -> SavePath {
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
            // Removes a file or link of an earlier run, so that O_EXCL creates a new file.
            if unlinkat(folder, name, 0) != 0 && errno != ENOENT {
                throw SystemError("cannot replace '\(path.partial)'")
            }
            let file = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
            if file < 0 { throw SystemError("cannot create '\(path.partial)'") }
            close(file)
        }
        return path
    }

    /// Appends bytes to the file of a source.
    package func append(_ bytes: ByteBuffer, to path: SavePath) throws(SystemError) {
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

    /// Renames a complete file to its final name and replaces an existing file.
    package func complete(_ path: SavePath) throws(SystemError) {
        try inFolder(of: path, create: false) { (folder) throws(SystemError) in
            if renameat(folder, path.partial.name, folder, path.name) != 0 {
                throw SystemError("cannot rename '\(path.partial)' to '\(path)'")
            }
        }
    }

    /// Calls `body` with a descriptor of the folder that contains `path`.
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
