internal import Glibc
internal import HostConfiguration

/// Folder that only this user can access and from which code can be loaded. It holds the private copies of libraries
/// while the dynamic linker needs their names.
///
/// Each copy gets a new name, because the dynamic linker treats two files of the same name as one library.
package struct PrivateFolder: Sendable {
    /// Path without a trailing slash.
    package let path: String

    /// Candidates in order of preference: `$TMPDIR`, `$XDG_RUNTIME_DIR`, `/tmp`, `/dev/shm`, `/var/tmp`.
    package static var defaultCandidates: [String] {
        let fromEnvironment = ["TMPDIR", "XDG_RUNTIME_DIR"].compactMap { (name: String) -> String? in
            getenv(name).map { String(systemString: $0) }
        }
        return fromEnvironment.filter { $0.hasPrefix("/") } + ["/tmp", "/dev/shm", "/var/tmp"]
    }

    /// Creates the folder in the first candidate that allows execution.
    ///
    /// - Parameters:
    ///   - candidates: absolute paths.
    ///   - library: the library that needs the folder, for the message.
    /// - Throws: ``PluginLoadError`` with code `noPrivateFolder`. It gives the reason for each candidate.
    package init(in candidates: [String] = Self.defaultCandidates, for library: String) throws(PluginLoadError) {
        var reasons: [String] = []
        for candidate in candidates {
            var template = Array("\(candidate)/chanserv-XXXXXX".utf8CString)
            guard mkdtemp(&template) != nil else {
                reasons.append("\(candidate): \(systemMessage(errno))")
                continue
            }
            let path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
            if let reason = Self.reasonNotToExecute(in: path) {
                reasons.append("\(candidate): \(reason)")
                rmdir(path)
                continue
            }
            self.path = path
            return
        }
        throw PluginLoadError(
            .noPrivateFolder, path: library,
            "no folder for a private copy allows execution (\(reasons.joined(separator: "; "))); "
                + "set TMPDIR to one that does")
    }

    /// Maps a file as the dynamic linker does. This detects a `noexec` mount and any other policy against execution.
    private static func reasonNotToExecute(in folder: String) -> String? {
        let probe = "\(folder)/probe"
        let descriptor = open(probe, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { return systemMessage(errno) }
        defer {
            close(descriptor)
            unlink(probe)
        }
        guard ftruncate(descriptor, 4096) == 0 else { return systemMessage(errno) }
        let address = mmap(nil, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, descriptor, 0)
        guard let address, address != MAP_FAILED else {
            return errno == EPERM || errno == EACCES ? "does not allow execution (noexec)" : systemMessage(errno)
        }
        munmap(address, 4096)
        return nil
    }

    /// Writes a copy under `name`, which must be new.
    ///
    /// - Parameter library: path of the library, for the message.
    /// - Returns: path of the copy.
    /// - Throws: ``PluginLoadError`` with code `noPrivateFolder`.
    package func write(
        _ bytes: [UInt8], of library: String, as name: String
    ) throws(PluginLoadError) -> String {
        let copy = "\(path)/\(name)"
        func failure(_ code: Int32) -> PluginLoadError {
            PluginLoadError(
                .noPrivateFolder, path: library,
                "its private copy \(copy) cannot be written: \(systemMessage(code)); free space there or change TMPDIR")
        }
        let descriptor = open(copy, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o500)
        guard descriptor >= 0 else { throw failure(errno) }
        var written = 0
        while written < bytes.count {
            let result = bytes.withUnsafeBytes { bytes in
                Glibc.write(descriptor, bytes.baseAddress! + written, bytes.count - written)
            }
            if result > 0 {
                written += result
            } else if result == 0 || errno != EINTR {
                // A write of 0 bytes sets no error. It would repeat for ever.
                let code = result == 0 ? EIO : errno
                close(descriptor)
                unlink(copy)
                throw failure(code)
            }
        }
        close(descriptor)
        return copy
    }

    /// Removes the folder, which must be empty.
    package func remove() {
        rmdir(path)
    }
}
