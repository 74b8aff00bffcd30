internal import CProcess
internal import Glibc

/// A library's bytes, read once and checked: what is hashed is what is loaded, whatever happens to the file meanwhile.
package struct PluginFile: Sendable {
    /// Where it was read from, as configured.
    package let path: String
    /// All of it.
    package let bytes: [UInt8]
    /// The SHA-256 of ``bytes``.
    package let digest: PluginDigest

    init(path: String, bytes: [UInt8], digest: PluginDigest) {
        self.path = path
        self.bytes = bytes
        self.digest = digest
    }

    /// The largest library that is read: 1 GiB. More is surely a mistake, and it is held in memory while it is loaded.
    package static let maximumSize = 1 << 30

    /// Reads and checks a file.
    ///
    /// - Parameters:
    ///   - path: the library; its last component must not be a symbolic link.
    ///   - pin: what its SHA-256 must be.
    ///   - permissions: whose files are trusted; `nil` for those of anybody, where nothing of them is going to be loaded.
    ///   - maximumSize: in bytes, 1 GiB by default.
    /// - Throws: ``PluginLoadError``.
    package init(
        path: String,
        pin: PluginDigest? = nil,
        permissions: PluginPermissions? = .current,
        maximumSize: Int = Self.maximumSize
    ) throws(PluginLoadError) {
        let (folder, name) = Self.split(path)
        guard !name.isEmpty, name != ".", name != ".." else {
            throw PluginLoadError(.notAFile, path: path, "is no file; name the library itself")
        }

        // The folder is held open from its check to the opening of the file in it, so both are of the same folder.
        let folderDescriptor = open(folder, openPathOnly | O_DIRECTORY | O_CLOEXEC)
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

        // O_NONBLOCK: opening a pipe must not wait for somebody to write to it.
        let descriptor = openat(folderDescriptor, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
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
            throw PluginLoadError(.notAFile, path: path, "is no regular file; name a shared library (.so)")
        }
        if let problem = permissions?.problem(with: path, owner: status.st_uid, mode: status.st_mode) {
            throw PluginLoadError(.unsafePermissions, path: path, problem)
        }
        guard status.st_size <= maximumSize else {
            throw PluginLoadError(
                .tooLarge, path: path, "is \(status.st_size) bytes, more than the \(maximumSize) a plugin may have")
        }

        let bytes = try Self.read(descriptor, size: Int(status.st_size), path: path)
        let size = status.st_size
        let modified = status.st_mtim
        guard fstat(descriptor, &status) == 0, bytes.count == Int(size), status.st_size == size,
            status.st_mtim.tv_sec == modified.tv_sec, status.st_mtim.tv_nsec == modified.tv_nsec
        else {
            throw PluginLoadError(
                .incomplete, path: path,
                "changed while it was read; copy it beside this name and rename it (mv) when done")
        }

        let digest = bytes.withUnsafeBytes { PluginDigest(of: $0) }
        if let pin, pin != digest {
            throw PluginLoadError(
                .wrongDigest, path: path,
                "has SHA-256 \(digest), pinned is \(pin); put the right file there or change the pin (sha256)")
        }
        _ = try Self.library(bytes, path: path)
        self.path = path
        self.bytes = bytes
        self.digest = digest
    }

    /// Reads what the file says of itself, and refuses what must not come into the process.
    ///
    /// Checked before `dlopen` for the message's sake, and because mapping a library that ends too early kills the
    /// process with SIGBUS at the first access past the end.
    static func library(_ bytes: [UInt8], path: String) throws(PluginLoadError) -> ELFLibrary {
        let library: ELFLibrary
        do throws(ELFProblem) {
            library = try ELFLibrary(bytes)
        } catch {
            switch error {
            case .truncated:
                throw PluginLoadError(
                    .incomplete, path: path,
                    "ends before what its headers describe; copy it again, beside this name, and rename it (mv) when done"
                )
            case .notALibrary(let why):
                throw PluginLoadError(.notALibrary, path: path, "is no shared library: \(why)")
            case .damaged(let why):
                throw PluginLoadError(.notALibrary, path: path, "is damaged: \(why); build or copy it again")
            }
        }
        if let problem = library.entry.problem {
            throw PluginLoadError(.noEntry, path: path, problem)
        }
        // The C library would make the stacks of all threads executable, those of other plugins included.
        guard library.stack == .notExecutable else {
            let how = library.stack == .executable ? "asks for" : "does not say that it needs no"
            throw PluginLoadError(
                .executableStack, path: path,
                "\(how) executable stack, which the whole host would get; link it with -Wl,-z,noexecstack (assembler "
                    + "files without a .note.GNU-stack section, and nested functions of GNU C, are what asks for it)")
        }
        // Its code would be writable for a moment, and no memory of it shared.
        guard !library.dynamic.hasTextRelocations else {
            throw PluginLoadError(
                .textRelocations, path: path,
                "has relocations in its code; compile all of it with -fPIC (and link it without -z notext)")
        }
        return library
    }

    /// Folder and last component; a path without a slash is in the working directory.
    static func split(_ path: String) -> (folder: String, name: String) {
        guard let slash = path.lastIndex(of: "/") else { return (".", path) }
        let folder = path[..<slash]
        return (folder.isEmpty ? "/" : String(folder), String(path[path.index(after: slash)...]))
    }

    /// Reads to the end of the file, or one byte past `size` to show that it has grown.
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
        let isPassing = [EMFILE, ENFILE, ENOMEM].contains(code)
        return PluginLoadError(
            isPassing ? .outOfResources : .unreadable, path: path, "\(what): \(systemMessage(code))")
    }
}

/// What the system says about an `errno`, and the way out where it is not to be guessed.
package func systemMessage(_ code: Int32) -> String {
    let text = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
        guard strerror_r(code, buffer.baseAddress!, buffer.count) == 0 else { return "error \(code)" }
        return String(cString: buffer.baseAddress!)
    }
    guard code == EMFILE else { return text }
    return
        "\(text); the limit of \(chanserv_open_files_limit()) is too low (LimitNOFILE= of a service, ulimit -n of a shell)"
}

/// `O_PATH`, which the C library's headers show to GNU sources only: a folder need not be readable to be checked.
private let openPathOnly: Int32 = 0o10000000
