import Foundation

/// A folder of its own for a test, removed with the last reference.
final class Folder: Sendable {
    let path: String

    init() throws {
        var template = Array((NSTemporaryDirectory() + "/chanserv-files-XXXXXX").utf8CString)
        guard let made = mkdtemp(&template) else { throw Failure("mkdtemp: \(errno)") }
        // The real path, as the kernel shows it for open descriptors.
        guard let real = realpath(made, nil) else { throw Failure("realpath: \(errno)") }
        path = String(cString: real)
        free(real)
    }

    deinit {
        do {
            try FileManager.default.removeItem(atPath: path)
        } catch {
            print("\(path) stays behind: \(error)")
        }
    }

    func file(_ name: String) -> String { path + "/" + name }

    /// Creates or replaces the file's content, in place, and the folders on the way.
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

    /// Lets this thread, and those it starts, do with files what anybody may, until it ends: root may read everything.
    func giveUpPrivileges() throws {
        guard geteuid() == 0 else { return }
        let nobody: uid_t = 65_534
        try check(chown(path, nobody, nobody))
        // The C library's headers show it to GNU sources only. It answers what was in force before.
        guard let symbol = dlsym(nil, "setfsuid") else { throw Failure("no setfsuid") }
        let setIdentity = unsafeBitCast(symbol, to: (@convention(c) (uid_t) -> Int32).self)
        _ = setIdentity(nobody)
        guard setIdentity(nobody) == Int32(nobody) else { throw Failure("root cannot be given up") }
    }

    /// How many descriptors of this process are open on something in here.
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

/// The header of a source of Files.
struct FileHeader: Decodable, Equatable {
    var path: String
    var size: Int
    var mtime: String
    // As it stands in the JSON.
    var path_base64: String?  // swift-format-ignore: AlwaysUseLowerCamelCase

    init(_ source: Stream) throws {
        self = try JSONDecoder().decode(FileHeader.self, from: Data(source.header))
    }
}

/// The paths of sources, in their order.
func paths(_ sources: [Stream]) throws -> [String] {
    try sources.map { try FileHeader($0).path }
}

func text(_ frames: [[UInt8]]) -> [String] {
    frames.map { String(decoding: $0, as: UTF8.self) }
}
