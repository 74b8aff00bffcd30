internal import CProcess
internal import Glibc

/// Writable memory in an anonymous file of fixed size, for processes that inherit it.
package final class SharedFile: Sendable {
    package let descriptor: Int32

    /// - Parameters:
    ///   - size: size in bytes. The bytes are zero. The system reserves the memory at once, so that later accesses
    ///     cannot fail.
    ///   - name: name of the file in system tools.
    /// - Returns: `nil` if the system does not support such files or has no memory for it.
    package init?(size: Int, name: String) {
        descriptor = chanserv_memfd_create(name)
        guard descriptor >= 0 else { return nil }
        guard posix_fallocate(descriptor, 0, off_t(size)) == 0, chanserv_memfd_seal(descriptor, 1) == 0 else {
            close(descriptor)
            return nil
        }
    }

    deinit { close(descriptor) }
}
