import Foundation

/// File descriptors like those that a parent process passes on.
enum Descriptors {
    struct Failure: Error {
        let code = errno
    }

    static func pipe() throws -> (input: CInt, output: CInt) {
        var ends: [CInt] = [0, 0]
        guard Foundation.pipe(&ends) == 0 else { throw Failure() }
        return (ends[0], ends[1])
    }

    static func socketPair() throws -> (CInt, CInt) {
        var ends: [CInt] = [0, 0]
        guard socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0, &ends) == 0 else { throw Failure() }
        return (ends[0], ends[1])
    }

    /// An unlinked file of zeros, to be mapped by two processes.
    static func file(size: Int) throws -> CInt {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("shared-\(UUID())").path
        let descriptor = Foundation.open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Failure() }
        unlink(path)
        guard ftruncate(descriptor, off_t(size)) == 0 else { throw Failure() }
        return descriptor
    }

    /// Reads bytes of a file.
    static func contents(of descriptor: CInt, count: Int, at offset: Int = 0) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { buffer, size in
            size = max(0, pread(descriptor, buffer.baseAddress, count, off_t(offset)))
        }
    }
}
