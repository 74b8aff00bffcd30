internal import Glibc

/// A folder only this user can look into, from which code can be loaded: where the private copies of libraries stand
/// for as long as the dynamic linker needs their names.
///
/// Each copy gets a name that is never used again, for the dynamic linker takes two files of one name for the same.
package struct PrivateFolder: Sendable {
    /// Without a slash at its end.
    package let path: String

    /// Where to try, in this order: `$TMPDIR`, `$XDG_RUNTIME_DIR`, `/tmp`, `/dev/shm`, `/var/tmp`.
    package static var defaultCandidates: [String] {
        let fromEnvironment = ["TMPDIR", "XDG_RUNTIME_DIR"].compactMap { (name: String) -> String? in
            getenv(name).map { String(cString: $0) }
        }
        return fromEnvironment.filter { $0.hasPrefix("/") } + ["/tmp", "/dev/shm", "/var/tmp"]
    }

    /// Makes the folder in the first candidate that allows execution.
    ///
    /// - Parameters:
    ///   - candidates: absolute paths.
    ///   - library: for which library it is needed, for the message.
    /// - Throws: ``PluginLoadError`` with code `noPrivateFolder`, which says for each candidate why not.
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

    /// Tries what the dynamic linker will do, which finds a `noexec` mount as well as any other policy against it.
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
    /// - Returns: its path.
    /// - Throws: ``PluginLoadError`` with code `noPrivateFolder`.
    package func write(_ file: PluginFile, as name: String) throws(PluginLoadError) -> String {
        let copy = "\(path)/\(name)"
        func failure(_ code: Int32) -> PluginLoadError {
            PluginLoadError(
                .noPrivateFolder, path: file.path,
                "its private copy \(copy) cannot be written: \(systemMessage(code)); make room or set TMPDIR elsewhere")
        }
        let descriptor = open(copy, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o500)
        guard descriptor >= 0 else { throw failure(errno) }
        var written = 0
        while written < file.bytes.count {
            let result = file.bytes.withUnsafeBytes { bytes in
                Glibc.write(descriptor, bytes.baseAddress! + written, bytes.count - written)
            }
            if result > 0 {
                written += result
            } else if errno != EINTR {
                let code = errno
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
