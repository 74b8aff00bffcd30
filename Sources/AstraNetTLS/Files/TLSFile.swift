#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// A PEM file of certificates or keys.
struct TLSFile: Sendable {
    /// Maximum size of a file (1 MiB). The CA bundle of Debian has 220 KiB.
    static let maximumSize = 1 << 20

    /// The path.
    let path: String
    /// The blocks of the file, in its order.
    let blocks: [PEMBlock]

    /// Reads a file.
    ///
    /// - Parameters:
    ///   - path: the path.
    ///   - isPrivate: whether only root and the user of this process may read the file.
    init(path: String, isPrivate: Bool = false) throws(TLSFileError) {
        // The path is printed. A key in its place, for example from a variable, must not be.
        guard path.utf8.count <= 4_096, !path.contains("-----BEGIN"), !path.utf8.contains(where: { $0 < 0x20 }) else {
            throw TLSFileError(
                file: nil, problem: "the path of a certificate, key or CA is no path, but perhaps its content",
                remedy: "give the path of the file")
        }
        self.path = path
        blocks = try PEMBlock.blocks(in: Self.read(path, isPrivate: isPrivate), file: path)
    }

    /// Returns the blocks with one of the labels. At least one is needed.
    ///
    /// - Parameter what: what the file should have, for the error.
    func blocks(_ labels: [String], what: String) throws(TLSFileError) -> [PEMBlock] {
        let found = blocks.filter { labels.contains($0.label) }
        guard found.isEmpty else { return found }
        let others = Set(blocks.map { "'\($0.label)'" }).sorted().joined(separator: ", ")
        throw TLSFileError(
            file: path,
            problem: others.isEmpty ? "has no \(what) in PEM format" : "has no \(what), only \(others)",
            remedy: others.isEmpty
                ? "convert it, for a certificate in DER format with: openssl x509 -inform der -in '\(path)'"
                : "give the file with the \(what)")
    }

    private static func read(_ path: String, isPrivate: Bool) throws(TLSFileError) -> [UInt8] {
        // Without O_NONBLOCK, opening a named pipe would wait for a writer.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw cannotRead(path, errno) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw cannotRead(path, errno) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw TLSFileError(file: path, problem: "is not a regular file")
        }
        if isPrivate, let error = permissionError(path, status) { throw error }
        guard status.st_size <= maximumSize else { throw tooLarge(path) }
        var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
        var count = 0
        while count < bytes.count {
            let size = bytes.count - count
            let result = bytes.withUnsafeMutableBytes {
                #if canImport(Glibc)
                    Glibc.read(descriptor, $0.baseAddress! + count, size)
                #elseif canImport(Musl)
                    Musl.read(descriptor, $0.baseAddress! + count, size)
                #else
                    Darwin.read(descriptor, $0.baseAddress! + count, size)
                #endif
            }
            if result < 0, errno == EINTR { continue }
            guard result >= 0 else { throw cannotRead(path, errno) }
            // The file became shorter meanwhile.
            if result == 0 { break }
            count += result
        }
        return Array(bytes.prefix(count))
    }

    /// Returns the error if users other than root and the user of this process can read the file or can have made it.
    private static func permissionError(_ path: String, _ status: stat) -> TLSFileError? {
        let user = geteuid()
        guard status.st_uid == 0 || status.st_uid == user else {
            return TLSFileError(
                file: path, problem: "the key belongs to user \(status.st_uid)",
                remedy: "fix this with: chown \(user) '\(path)'")
        }
        guard status.st_mode & 0o077 != 0 else { return nil }
        return TLSFileError(
            file: path,
            problem: "the key can be used by other users (mode \(String(status.st_mode & 0o777, radix: 8)))",
            remedy: "fix this with: chmod 600 '\(path)'")
    }

    private static func cannotRead(_ path: String, _ code: CInt) -> TLSFileError {
        TLSFileError(
            file: path, problem: "cannot be read: \(String(cString: strerror(code)))",
            remedy: code == ENOENT ? "check the path" : "")
    }

    private static func tooLarge(_ path: String) -> TLSFileError {
        TLSFileError(
            file: path, problem: "is larger than \(maximumSize >> 20) MiB", remedy: "check that it is the right file")
    }
}
