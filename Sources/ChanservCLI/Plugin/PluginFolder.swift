import Glibc

/// Creates folders from the files that are embedded in this command.
enum PluginFolder {
    /// The reason why a folder or a file could not be written.
    struct Problem: Error, CustomStringConvertible {
        enum Code { case exists, other }

        var code: Code
        var description: String
    }

    /// Creates a folder with files. Fails if it exists already.
    ///
    /// Files that begin with `#!` become executable. Nothing is writable by other users, because the host refuses to
    /// load such plugins.
    ///
    /// - Parameter files: the text of each file by its path.
    static func write(_ files: [String: String], to folder: String) throws(Problem) {
        guard mkdir(folder, 0o755) == 0 else {
            if errno == EEXIST {
                throw Problem(code: .exists, description: "\(folder) exists already: choose another name or remove it")
            }
            throw problem("cannot create the folder \(folder)")
        }
        var made: Set<String> = []
        for (path, text) in files.sorted(by: { $0.key < $1.key }) {
            var parent = folder
            for part in path.split(separator: "/").dropLast() {
                parent += "/\(part)"
                guard made.insert(parent).inserted else { continue }
                guard mkdir(parent, 0o755) == 0 else { throw problem("cannot create the folder \(parent)") }
            }
            try write(text, to: "\(folder)/\(path)", mode: text.hasPrefix("#!") ? 0o755 : 0o644)
        }
    }

    static func write(_ text: String, to path: String, mode: mode_t) throws(Problem) {
        let descriptor = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, mode)
        guard descriptor >= 0 else { throw problem("cannot write \(path)") }
        defer { close(descriptor) }
        var text = text
        do {
            try text.withUTF8 { bytes in
                try writeAll(UnsafeRawBufferPointer(bytes), to: descriptor, name: path)
            }
        } catch {
            throw Problem(code: .other, description: "\(error)")
        }
    }

    static func problem(_ operation: String) -> Problem {
        Problem(code: .other, description: "\(SystemError(operation))")
    }
}

/// A folder with the plugin header, in the user's cache.
enum IncludeFolder {
    /// Returns the path of the folder. Creates the folder and its files if they do not exist.
    ///
    /// The folder's name has a digest of the headers, so that commands of different versions do not overwrite each
    /// other's.
    static func path() throws(PluginFolder.Problem) -> String {
        let folder = try cache() + "/chanserv/include-\(digest)"
        try makeFolders(folder)
        for (name, text) in EmbeddedFiles.include.sorted(by: { $0.key < $1.key }) where name.hasSuffix(".h") {
            let target = "\(folder)/\(name)"
            if access(target, R_OK) == 0 { continue }
            // The rename is atomic: a concurrent command or compiler never sees a partial file.
            let part = "\(folder)/.\(name).\(getpid())"
            try PluginFolder.write(text, to: part, mode: 0o644)
            guard rename(part, target) == 0 else { throw PluginFolder.problem("cannot write \(target)") }
        }
        return folder
    }

    private static func cache() throws(PluginFolder.Problem) -> String {
        if let cache = getenv("XDG_CACHE_HOME").map({ String(cString: $0) }), cache.hasPrefix("/") { return cache }
        if let home = getenv("HOME").map({ String(cString: $0) }), home.hasPrefix("/") { return home + "/.cache" }
        throw PluginFolder.Problem(
            code: .other, description: "no cache folder: set HOME or XDG_CACHE_HOME to an absolute path")
    }

    private static func makeFolders(_ path: String) throws(PluginFolder.Problem) {
        var folder = ""
        for part in path.split(separator: "/") {
            folder += "/\(part)"
            guard mkdir(folder, 0o755) == 0 || errno == EEXIST else {
                throw PluginFolder.problem("cannot create the folder \(folder)")
            }
        }
    }

    /// The FNV-1a hash of the names and the texts of the headers.
    private static var digest: String {
        var digest: UInt64 = 0xCBF2_9CE4_8422_2325
        for (name, text) in EmbeddedFiles.include.sorted(by: { $0.key < $1.key }) {
            for byte in Array(name.utf8) + [0] + Array(text.utf8) + [0] {
                digest = (digest ^ UInt64(byte)) &* 0x100_0000_01B3
            }
        }
        return String(digest, radix: 16)
    }
}
