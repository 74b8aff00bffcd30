internal import Glibc

/// Access to the files that a configuration names. Tests replace it.
package struct ConfigurationFiles {
    /// Returns what is wrong with the file of a plugin, or `nil`.
    package var pluginProblem: (String) -> String?
    /// Returns the bytes of a configuration file.
    package var read: (String) throws(FileProblem) -> [UInt8]
    /// Returns the paths that match a glob pattern in a folder, in the order of their bytes. For a pattern without
    /// wildcards this is its path, whether the file exists or not.
    package var matches: (_ folder: String, _ pattern: String) throws(FileProblem) -> [String]
    /// Returns why a file is not safe as a source of code, because other users can write it; `nil` if it is safe.
    package var permissionProblem: (String) -> String?
    /// Returns who can write a file.
    package var access: (String) -> WriteAccess
    /// Returns the names of the files in a folder that other users cannot write to.
    package var list: (String) throws(FileProblem) -> [String]
    /// Returns the file that a path leads to through symbolic links, or the path itself if there is none.
    package var resolve: (String) -> String

    package init(
        pluginProblem: @escaping (String) -> String? = { _ in nil },
        read: @escaping (String) throws(FileProblem) -> [UInt8] = { _ throws(FileProblem) in
            throw FileProblem("cannot be read here")
        }, matches: @escaping (String, String) throws(FileProblem) -> [String] = { _, _ in [] },
        permissionProblem: @escaping (String) -> String? = { _ in nil },
        access: @escaping (String) -> WriteAccess = { _ in .owner },
        list: @escaping (String) throws(FileProblem) -> [String] = { _ in [] },
        resolve: @escaping (String) -> String = { $0 }
    ) {
        self.pluginProblem = pluginProblem
        self.read = read
        self.matches = matches
        self.permissionProblem = permissionProblem
        self.access = access
        self.list = list
        self.resolve = resolve
    }

    /// The file system.
    static var system: ConfigurationFiles {
        ConfigurationFiles(
            pluginProblem: problemOfPlugin,
            read: { (path) throws(FileProblem) in
                try readBytes(path, limit: YAMLLimits().fileSize, mustBeRegular: true)
            },
            matches: { (folder, pattern) throws(FileProblem) in try matchesOfPattern(pattern, in: folder) },
            permissionProblem: permissionProblemOfFile, access: writeAccess,
            list: { (folder) throws(FileProblem) in try namesOfFolder(folder, mustBeSafe: true) },
            resolve: { path in
                guard let target = realpath(path.systemString, nil) else { return path }
                defer { free(target) }
                return String(systemString: target)
            })
    }
}

/// The main file and the included files of a configuration, as they were read. With them the drop-ins can be read again
/// without changes of these files, which an operator may be editing.
package struct ConfigurationSource: Sendable {
    /// The bytes of the main file.
    package var main: [UInt8] = []
    /// The bytes of the included files, by path.
    var included: [String: [UInt8]] = [:]
    /// The files that matched each pattern of `include`.
    var matches: [String: [String]] = [:]

    /// Returns access to the included files as they were read, and to all other files as they are.
    func files(over system: ConfigurationFiles) -> ConfigurationFiles {
        var files = system
        files.read = { (path) throws(FileProblem) in
            if let bytes = included[path] { return bytes }
            return try system.read(path)
        }
        files.matches = { (folder, pattern) throws(FileProblem) in matches[folder + pattern] ?? [] }
        return files
    }
}

/// Returns the paths that match a pattern, see ``ConfigurationFiles/matches``.
private func matchesOfPattern(_ pattern: String, in folder: String) throws(FileProblem) -> [String] {
    guard pattern.contains(where: { "*?[".contains($0) }) else { return [folder + pattern] }
    let pattern = folder.replacing(#/[*?\[\]\\]/#) { "\\" + $0.output } + pattern
    var result = glob_t()
    defer { globfree(&result) }
    // Sorted here, because glob(3) sorts by the locale.
    // An unreadable folder is an error: otherwise a reload would remove everything that it contains.
    switch glob(pattern.systemString, GLOB_NOSORT | GLOB_ERR, nil, &result) {
    case 0: break
    case GLOB_NOMATCH: return []
    default: throw FileProblem(errno: errno)
    }
    guard let paths = result.gl_pathv else { return [] }
    return (0..<Int(result.gl_pathc)).compactMap { index in paths[index].map { String(systemString: $0) } }
        .sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
}

/// The users who can write a file, and thereby run code as the user of the host.
package enum WriteAccess: Sendable {
    /// Only the owner.
    case owner
    case group
    case everyone

    /// Returns why the host does not read a file; `nil` if it does.
    func problem(with file: String, _ what: String = "this file") -> String? {
        switch self {
        case .owner, .group: nil
        case .everyone:
            "every user can write \(what), and could thereby run code as the user of the host; fix this with: "
                + "chmod go-w '\(file)'"
        }
    }
}

private func permissionProblemOfFile(_ file: String) -> String? {
    var status = stat()
    guard stat(file.systemString, &status) == 0 else { return nil }
    return PluginPermissions.current.problem(with: file, owner: status.st_uid, mode: status.st_mode)
}

private func writeAccess(to file: String) -> WriteAccess {
    var status = stat()
    // Pipes and devices have no content that others could have written.
    guard stat(file.systemString, &status) == 0, [S_IFREG, S_IFDIR].contains(status.st_mode & S_IFMT) else {
        return .owner
    }
    if status.st_mode & S_IWOTH != 0 { return .everyone }
    return status.st_mode & S_IWGRP != 0 ? .group : .owner
}

/// Returns what is wrong with a plugin's file, as far as this is known without opening it.
private func problemOfPlugin(_ path: String) -> String? {
    var status = stat()
    guard lstat(path.systemString, &status) == 0 else {
        return errno == ENOENT ? "does not exist" : "cannot be used: \(String(cString: strerror(errno)))"
    }
    switch status.st_mode & S_IFMT {
    case S_IFREG: return nil
    case S_IFLNK:
        let target = realpath(path.systemString, nil)
        defer { free(target) }
        guard let target else {
            return "is a broken symbolic link, and symbolic links are not followed: put the library itself there"
        }
        return "is a symbolic link, which is not followed: put the library itself there, or set 'path' to "
            + "'\(String(systemString: target))'"
    default: return "is not a regular file"
    }
}
