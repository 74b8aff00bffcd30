internal import CProcess
internal import Glibc
internal import HostConfiguration

/// Environment of the dynamic linker on this machine.
extension LibrarySearch.Surroundings {
    package static func system() -> Self {
        var bytesLeft = readLimit
        var surroundings = Self(loaded: loaded) { candidate($0, &bytesLeft) }
        surroundings.isSystemFile = isSystemFile
        surroundings.isSameFile = isSameFile
        surroundings.stamp = stamp
        if let value = getenv("LD_LIBRARY_PATH"), value.pointee != 0 {
            let folders = String(systemString: value).split(omittingEmptySubsequences: false) { $0 == ":" || $0 == ";" }
            surroundings.libraryPath = folders.map(String.init)
        }
        switch readWhole("/etc/ld.so.cache", maximumSize: 64 << 20) {
        case .success(let bytes): surroundings.cache = LoaderCache(bytes)
        case .failure(let failure): surroundings.cache = failure.code == ENOENT ? LoaderCache() : nil
        }
        return surroundings
    }

    /// Asks the linker, which compares `name` with the names that loaded libraries declare. This runs no code and maps
    /// nothing. A library that it finds stays referenced, because the host never unloads any.
    static func loaded(_ name: String) -> LibrarySearch.Loaded? {
        // $ORIGIN would be the folder of the host.
        if name.contains("$") { return nil }
        guard let handle = dlopen(name, RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD) else {
            // Clears the message. Otherwise it would be reported for the next call that fails.
            _ = dlerror()
            return nil
        }
        let path = chanserv_library_path(handle).map { String(cString: $0) } ?? name
        if let content = LoadedLibraries.content(of: path) { return LibrarySearch.Loaded(path: path, content: content) }
        return LibrarySearch.Loaded(path: path, stamp: LoadedLibraries.hostStamp(of: path, now: stamp))
    }

    private static func stamp(_ path: String) -> String? {
        var status = stat()
        return stat(path, &status) == 0 ? fileStamp(status) : nil
    }

    /// A link from a system folder to another place does not lead to a system file.
    private static func isSystemFile(_ path: String) -> Bool {
        guard LibrarySearch.isInDefaultFolder(path) else { return false }
        guard let target = realpath(path, nil) else { return true }
        defer { free(target) }
        let file = String(cString: target)
        return ["/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/"].contains { file.hasPrefix($0) }
    }

    private static func isSameFile(_ path: String, _ other: String) -> Bool {
        var (first, second) = (stat(), stat())
        return stat(path, &first) == 0 && stat(other, &second) == 0 && first.st_dev == second.st_dev
            && first.st_ino == second.st_ino
    }

    /// Maximum number of bytes of libraries that one search reads: 512 MiB. Libraries beyond that count as found, and
    /// are identified by size, inode and time.
    private static let readLimit = 512 << 20

    private static func candidate(_ path: String, _ bytesLeft: inout Int) -> LibrarySearch.Candidate {
        switch readWhole(path, maximumSize: bytesLeft) {
        case .success(let bytes):
            bytesLeft -= bytes.count
            do throws(ELFProblem) {
                return .library(try ELFLibrary(bytes))
            } catch {
                switch error {
                case .notALibrary(let why): return .refused(why)
                case .truncated: return .refused("it ends before the data that its headers describe")
                case .damaged(let why): return .refused(why)
                }
            }
        case .failure(let failure):
            switch failure.code {
            case ENOENT, ENOTDIR: return .nothing
            case EFBIG: return .unread(content: failure.stamp)
            default: return .refused(systemMessage(failure.code))
            }
        }
    }
}

private struct ReadFailure: Error {
    var code: Int32
    /// Stamp of a file that is too large.
    var stamp = ""
}

private func fileStamp(_ status: stat) -> String {
    "\(status.st_size) bytes, inode \(status.st_ino), \(status.st_mtim.tv_sec).\(status.st_mtim.tv_nsec)"
}

/// Reads all bytes of a regular file.
private func readWhole(_ path: String, maximumSize: Int) -> Result<[UInt8], ReadFailure> {
    // O_NONBLOCK: opening a pipe would otherwise wait for a writer.
    let descriptor = open(path.systemString, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard descriptor >= 0 else { return .failure(ReadFailure(code: errno)) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { return .failure(ReadFailure(code: errno)) }
    guard status.st_mode & S_IFMT == S_IFREG else { return .failure(ReadFailure(code: EISDIR)) }
    guard status.st_size <= maximumSize else {
        return .failure(ReadFailure(code: EFBIG, stamp: fileStamp(status)))
    }
    var failure: Int32 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: Int(status.st_size)) { buffer, count in
        while count < buffer.count {
            let result = read(descriptor, buffer.baseAddress! + count, buffer.count - count)
            if result == 0 { return }
            if result > 0 {
                count += result
            } else if errno != EINTR {
                failure = errno
                return
            }
        }
    }
    return failure == 0 ? .success(bytes) : .failure(ReadFailure(code: failure))
}
