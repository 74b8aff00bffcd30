internal import CProcess
internal import Glibc
package import HostConfiguration

/// Bytes of a library, read once and checked. The host loads exactly the bytes that it hashed, even if the file changes
/// later.
package struct PluginFile: Sendable {
    /// Path of the file as configured.
    package let path: String
    /// Complete contents of the file.
    package let bytes: [UInt8]
    /// The SHA-256 of ``bytes``.
    package let digest: PluginDigest
    /// The needed files outside of the system folders. They identify the code together with ``digest``.
    package var needed: [NeededLibrary] = []
    /// Warning for the case that the library is loaded into the host; `nil` if there is none.
    package var warning: String?

    package init(path: String, bytes: [UInt8], digest: PluginDigest) {
        self.path = path
        self.bytes = bytes
        self.digest = digest
    }

    /// Maximum size of a library: 1 GiB. The host holds the file in memory while it loads it.
    package static let maximumSize = 1 << 30

    /// Reads and checks a file.
    ///
    /// - Parameters:
    ///   - path: path of the library. Its last component must not be a symbolic link.
    ///   - pin: the SHA-256 that the file must have; `nil` accepts any.
    ///   - permissions: the owners and modes to accept; `nil` skips this check, for a file that will not be loaded.
    ///   - maximumSize: maximum size in bytes. The default is 1 GiB.
    /// - Throws: ``PluginLoadError``.
    package init(
        path: String,
        pin: PluginDigest? = nil,
        permissions: PluginPermissions? = .current,
        maximumSize: Int = Self.maximumSize
    ) throws(PluginLoadError) {
        let (folder, name) = Self.split(path)
        guard !name.isEmpty, name != ".", name != ".." else {
            throw PluginLoadError(.notAFile, path: path, "is not a file; give the path of the library itself")
        }

        // The folder stays open from its check until the file is opened in it, so both steps use the same folder.
        let folderDescriptor = open(folder.systemString, openPathOnly | O_DIRECTORY | O_CLOEXEC)
        guard folderDescriptor >= 0 else {
            throw Self.openError(errno, path: path, what: "its folder cannot be opened")
        }
        defer { close(folderDescriptor) }
        var status = stat()
        guard fstat(folderDescriptor, &status) == 0 else {
            throw Self.openError(errno, path: path, what: "its folder cannot be examined")
        }
        if let problem = permissions?.problem(with: folder, owner: status.st_uid, mode: status.st_mode) {
            throw PluginLoadError(.unsafePermissions, path: path, "its folder \(problem)")
        }

        // O_NONBLOCK: opening a pipe would otherwise wait for a writer.
        let flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY
        let descriptor = openat(folderDescriptor, name.systemString, flags)
        guard descriptor >= 0 else {
            if errno == ELOOP {
                throw PluginLoadError(
                    .symbolicLink, path: path, "is a symbolic link; name the file it points to (readlink -f '\(path)')")
            }
            throw Self.openError(errno, path: path, what: "cannot be opened")
        }
        defer { close(descriptor) }
        guard fstat(descriptor, &status) == 0 else {
            throw Self.openError(errno, path: path, what: "cannot be examined")
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw PluginLoadError(
                .notAFile, path: path, "is not a regular file; give the path of a shared library (.so)")
        }
        if let problem = permissions?.problem(with: path, owner: status.st_uid, mode: status.st_mode) {
            throw PluginLoadError(.unsafePermissions, path: path, problem)
        }
        guard status.st_size <= maximumSize else {
            throw PluginLoadError(
                .tooLarge, path: path, "is \(status.st_size) bytes; the maximum for a plugin is \(maximumSize)")
        }

        let bytes = try Self.read(descriptor, size: Int(status.st_size), path: path)
        let size = status.st_size
        let modified = status.st_mtim
        guard fstat(descriptor, &status) == 0, bytes.count == Int(size), status.st_size == size,
            status.st_mtim.tv_sec == modified.tv_sec, status.st_mtim.tv_nsec == modified.tv_nsec
        else {
            throw PluginLoadError(
                .incomplete, path: path,
                "changed while the host read it; copy the file to another name in the same folder, then rename it (mv)")
        }

        let digest = bytes.withUnsafeBytes { PluginDigest(of: $0) }
        if let pin, pin != digest {
            throw PluginLoadError(
                .wrongDigest, path: path,
                "has SHA-256 \(digest), but the pinned one is \(pin); "
                    + "install the pinned file or change the pin (sha256)")
        }
        _ = try Self.library(bytes, path: path)
        self.path = path
        self.bytes = bytes
        self.digest = digest
    }

    /// Parses the file and rejects a library that is unsafe to load.
    ///
    /// The check runs before `dlopen` for two reasons. Its error messages are better. And mapping a truncated library
    /// kills the process with SIGBUS at the first access past the end.
    package static func library(_ bytes: [UInt8], path: String) throws(PluginLoadError) -> ELFLibrary {
        let library: ELFLibrary
        do throws(ELFProblem) {
            library = try ELFLibrary(bytes)
        } catch {
            switch error {
            case .truncated:
                throw PluginLoadError(
                    .incomplete, path: path,
                    "is truncated: it ends before the data that its headers describe; copy the file again to another "
                        + "name in the same folder, then rename it (mv)"
                )
            case .notALibrary(let why):
                throw PluginLoadError(.notALibrary, path: path, "is not a shared library: \(why)")
            case .damaged(let why):
                throw PluginLoadError(.notALibrary, path: path, "is damaged: \(why); build or copy it again")
            }
        }
        if let problem = library.entry.problem {
            throw PluginLoadError(.noEntry, path: path, problem)
        }
        // The C library would make the stacks of all threads executable, including those of other plugins.
        guard library.stack == .notExecutable else {
            let how = library.stack == .executable ? "requests an" : "does not declare that it needs no"
            throw PluginLoadError(
                .executableStack, path: path,
                "\(how) executable stack, which would apply to all threads of the host; link it with "
                    + "-Wl,-z,noexecstack (usual causes: an assembler file without a .note.GNU-stack section, or a "
                    + "nested function of GNU C)")
        }
        // The linker would have to make the code writable for a moment, and processes could not share its pages.
        guard !library.dynamic.hasTextRelocations else {
            throw PluginLoadError(
                .textRelocations, path: path,
                "has relocations in its code; compile all of it with -fPIC (and link it without -z notext)")
        }
        return library
    }

    /// Returns a warning about a library that is loaded into the host; `nil` if there is none.
    static func warning(about library: ELFLibrary) -> String? {
        guard library.dynamic.usesStaticTLS else { return nil }
        return "uses static TLS (initial-exec thread-local variables), of which a process has little and each loaded "
            + "version keeps its part, so that a later reload may be refused; \(staticTLSRemedy)"
    }

    static let staticTLSRemedy =
        "set isolation: process for this plugin or compile it with -ftls-model=global-dynamic"

    /// Splits `path` into its folder and its last component. A path without a slash is in the working directory.
    package static func split(_ path: String) -> (folder: String, name: String) {
        guard let slash = path.lastIndex(of: "/") else { return (".", path) }
        let folder = path[..<slash]
        return (folder.isEmpty ? "/" : String(folder), String(path[path.index(after: slash)...]))
    }

    /// Reads to the end of the file, at most one byte past `size`. The extra byte shows that the file has grown.
    private static func read(_ descriptor: Int32, size: Int, path: String) throws(PluginLoadError) -> [UInt8] {
        var failure: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: size + 1) { buffer, count in
            while count < buffer.count {
                let result = Glibc.read(descriptor, buffer.baseAddress! + count, buffer.count - count)
                if result == 0 { return }
                if result > 0 {
                    count += result
                } else if errno != EINTR {
                    failure = errno
                    return
                }
            }
        }
        guard failure == 0 else { throw openError(failure, path: path, what: "cannot be read") }
        return bytes
    }

    private static func openError(_ code: Int32, path: String, what: String) -> PluginLoadError {
        let isTemporary = [EMFILE, ENFILE, ENOMEM].contains(code)
        return PluginLoadError(
            isTemporary ? .outOfResources : .unreadable, path: path, "\(what): \(systemMessage(code))")
    }
}

/// Returns the system's text for an `errno`. For EMFILE it adds the limit and how to raise it.
package func systemMessage(_ code: Int32) -> String {
    let text = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
        guard strerror_r(code, buffer.baseAddress!, buffer.count) == 0 else { return "error \(code)" }
        return String(cString: buffer.baseAddress!)
    }
    guard code == EMFILE else { return text }
    let limit = chanserv_open_files_limit()
    return "\(text); the limit of \(limit) is too low (LimitNOFILE= of a service, ulimit -n of a shell)"
}

/// `O_PATH`, which glibc declares only with `_GNU_SOURCE`. It lets the host check a folder that it cannot read.
private let openPathOnly: Int32 = 0o10000000
