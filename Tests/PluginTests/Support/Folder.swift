import Foundation

/// A temporary folder for one test. It is removed with the last reference.
final class Folder: Sendable {
    let path: String

    init() throws {
        var template = Array((NSTemporaryDirectory() + "/chanserv-files-XXXXXX").utf8CString)
        guard let made = mkdtemp(&template) else { throw Failure("mkdtemp: \(errno)") }
        // Resolves links, because `descriptors()` compares this path with the real paths from the kernel.
        guard let real = realpath(made, nil) else { throw Failure("realpath: \(errno)") }
        path = String(cString: real)
        free(real)
    }

    deinit {
        do {
            try FileManager.default.removeItem(atPath: path)
        } catch {
            print("cannot remove \(path): \(error)")
        }
    }

    func file(_ name: String) -> String { path + "/" + name }

    /// Creates a file, or replaces its contents in place. Creates missing folders.
    func write(_ name: String, _ content: String = "") throws {
        try write(name, Array(content.utf8))
    }

    func write(_ name: String, _ content: [UInt8]) throws {
        try make(URL(filePath: file(name)).deletingLastPathComponent().path)
        try put(name, content, O_CREAT | O_TRUNC | O_WRONLY)
    }

    func append(_ name: String, _ content: String) throws {
        try put(name, Array(content.utf8), O_APPEND | O_WRONLY)
    }

    func folder(_ name: String) throws { try make(file(name)) }

    private func make(_ path: String) throws {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    private func put(_ name: String, _ content: [UInt8], _ flags: Int32) throws {
        let descriptor = open(file(name), flags, 0o644)
        guard descriptor >= 0 else { throw Failure("open \(name): \(errno)") }
        defer { close(descriptor) }
        var written = 0
        while written < content.count {
            let count = content.withUnsafeBytes { bytes in
                Foundation.write(descriptor, bytes.baseAddress! + written, bytes.count - written)
            }
            guard count > 0 else { throw Failure("write \(name): \(errno)") }
            written += count
        }
    }

    func check(_ result: Int32) throws {
        guard result == 0 else { throw Failure("\(String(cString: strerror(errno)))") }
    }

    func link(_ name: String, to target: String) throws { try check(symlink(target, file(name))) }
    func rename(_ name: String, to other: String) throws { try check(Foundation.rename(file(name), file(other))) }
    func remove(_ name: String) throws { try check(unlink(file(name))) }
    func truncate(_ name: String, to size: Int) throws { try check(Foundation.truncate(file(name), off_t(size))) }

    /// Changes the file system user of this thread, and of threads that it starts, from root to an unprivileged user.
    ///
    /// Root ignores file permissions, so permission tests need this. It has no effect for other users.
    func giveUpPrivileges() throws {
        guard geteuid() == 0 else { return }
        let unprivileged: uid_t = 65_534
        try check(chown(path, unprivileged, unprivileged))
        // Looked up by name, because the C headers declare setfsuid only for GNU sources. It returns the previous user.
        guard let symbol = dlsym(nil, "setfsuid") else { throw Failure("no setfsuid") }
        let setFileSystemUser = unsafeBitCast(symbol, to: (@convention(c) (uid_t) -> Int32).self)
        _ = setFileSystemUser(unprivileged)
        guard setFileSystemUser(unprivileged) == Int32(unprivileged) else { throw Failure("setfsuid failed") }
    }

    /// The number of open descriptors of this process that refer to this folder or to something in it.
    func descriptors() throws -> Int {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count { number in
            var target = [UInt8](repeating: 0, count: 4096)
            let size = readlink("/proc/self/fd/\(number)", &target, target.count)
            return size > 0 && String(decoding: target[..<size], as: UTF8.self).hasPrefix(path)
        }
    }

    func instance(_ configuration: [String: ConfigurationValue] = [:]) throws -> Instance {
        try Instance(
            descriptor(ofProduct: "Files"), configuration.merging(["root": .string(path)]) { given, _ in given })
    }
}

/// The header of a source of the Files plugin.
struct FileHeader: Decodable, Equatable {
    var path: String
    var size: Int
    var mtime: String
    // The name of the JSON key.
    var path_base64: String?  // swift-format-ignore: AlwaysUseLowerCamelCase

    init(_ source: Stream) throws {
        self = try JSONDecoder().decode(FileHeader.self, from: Data(source.header))
    }
}

/// Returns the paths of the sources, in the same order.
func paths(_ sources: [Stream]) throws -> [String] {
    try sources.map { try FileHeader($0).path }
}

func text(_ frames: [[UInt8]]) -> [String] {
    frames.map { String(decoding: $0, as: UTF8.self) }
}
