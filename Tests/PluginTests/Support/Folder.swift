import Foundation

/// A temporary folder of a test, removed with the last reference.
final class Folder: Sendable {
    let path: String

    init() throws {
        var template = Array((NSTemporaryDirectory() + "/chanserv-files-XXXXXX").utf8CString)
        guard let made = mkdtemp(&template) else { throw Failure("mkdtemp: \(errno)") }
        // The real path, because the kernel shows it for open descriptors.
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

    /// Creates the file and its parent folders if necessary, and replaces its content in place.
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

    private func modified(_ name: String) throws -> timespec {
        var status = stat()
        try check(stat(file(name), &status))
        return status.st_mtim
    }

    /// Waits until a file that is written now has a later time of its last write than `name`.
    func waitForLaterTime(than name: String) throws {
        let old = try modified(name)
        let deadline = Date(timeIntervalSinceNow: 60)
        while Date() < deadline {
            try write("clock")
            let now = try modified("clock")
            if (now.tv_sec, now.tv_nsec) > (old.tv_sec, old.tv_nsec) { return }
        }
        throw Failure("the time of the file system stands still")
    }

    /// Removes root's file access rights from this thread, and from threads that it starts, until the thread ends.
    func giveUpPrivileges() throws {
        guard geteuid() == 0 else { return }
        let unprivileged: uid_t = 65_534
        try check(chown(path, unprivileged, unprivileged))
        // The headers of the C library declare setfsuid for GNU sources only. It returns the previous value.
        guard let symbol = dlsym(nil, "setfsuid") else { throw Failure("no setfsuid") }
        let setIdentity = unsafeBitCast(symbol, to: (@convention(c) (uid_t) -> Int32).self)
        _ = setIdentity(unprivileged)
        guard setIdentity(unprivileged) == Int32(unprivileged) else { throw Failure("root cannot be given up") }
    }

    /// Returns the number of descriptors of this process that are open on something in this folder.
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
    // The name of the JSON key.
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
