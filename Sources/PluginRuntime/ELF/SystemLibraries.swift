internal import Glibc
internal import HostConfiguration

/// Environment of the dynamic linker on this machine.
extension LibrarySearch.Surroundings {
    package static func system() -> Self {
        var bytesLeft = readLimit
        var surroundings = Self(isLoaded: isLoaded) { candidate($0, &bytesLeft) }
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
    private static func isLoaded(_ name: String) -> Bool {
        if name.contains("/") { return false }
        guard dlopen(name, RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD) != nil else {
            // Clears the message. Otherwise it would be reported for the next call that fails.
            _ = dlerror()
            return false
        }
        return true
    }

    /// Maximum number of bytes of libraries that one search reads: 512 MiB. Libraries beyond that count as found.
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
            case EFBIG: return .unread
            default: return .refused(systemMessage(failure.code))
            }
        }
    }
}

private struct ReadFailure: Error {
    var code: Int32
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
    guard status.st_size <= maximumSize else { return .failure(ReadFailure(code: EFBIG)) }
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
