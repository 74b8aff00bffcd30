internal import CProcess
internal import Glibc

/// Immutable bytes in an anonymous file, for processes that inherit it.
package final class SealedFile: Sendable {
    package let descriptor: Int32

    /// - Parameter name: name of the file in system tools.
    /// - Throws: ``ProcessError``.
    package init(_ bytes: [UInt8], name: String) throws(ProcessError) {
        descriptor = chanserv_memfd_create(name)
        guard descriptor >= 0 else { throw ProcessError("cannot create a file in memory", code: errno) }
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes {
                pwrite(descriptor, $0.baseAddress! + written, $0.count - written, off_t(written))
            }
            if count > 0 {
                written += count
            } else if count < 0, errno != EINTR {
                let code = errno
                close(descriptor)
                throw ProcessError("cannot write a file in memory", code: code)
            }
        }
        guard chanserv_memfd_seal(descriptor, 0) == 0 else {
            let code = errno
            close(descriptor)
            throw ProcessError("cannot seal a file in memory", code: code)
        }
    }

    deinit { close(descriptor) }

    /// Reads all bytes of an inherited file.
    ///
    /// - Throws: ``ProcessError``.
    package static func contents(of descriptor: Int32) throws(ProcessError) -> [UInt8] {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw ProcessError("cannot examine a file in memory", code: errno)
        }
        var failure: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: Int(status.st_size)) { buffer, count in
            while count < buffer.count {
                let result = pread(descriptor, buffer.baseAddress! + count, buffer.count - count, off_t(count))
                if result == 0 { return }
                if result > 0 {
                    count += result
                } else if errno != EINTR {
                    failure = errno
                    return
                }
            }
        }
        guard failure == 0 else { throw ProcessError("cannot read a file in memory", code: failure) }
        return bytes
    }
}
