internal import CProcess
internal import Glibc

/// Memory in a file without a name, whose size nobody can change any more: for processes that inherit it to write to.
final class SharedFile: Sendable {
    let descriptor: Int32

    /// - Parameters:
    ///   - size: in bytes, all zero. The system sets so much memory aside at once, so that nobody who uses it finds none.
    ///   - name: what tools show of it.
    /// - Returns: `nil` where the system has no such files, or no room for it.
    init?(size: Int, name: String) {
        descriptor = chanserv_memfd_create(name)
        guard descriptor >= 0 else { return nil }
        guard posix_fallocate(descriptor, 0, off_t(size)) == 0, chanserv_memfd_seal(descriptor, 1) == 0 else {
            close(descriptor)
            return nil
        }
    }

    deinit { close(descriptor) }
}
